"""The stage contract: run directory, manifest, fingerprint, failure record and exit codes.

A run is a folder of stage folders. A stage's ``manifest.json`` is written last and is its commit
point: a stage without one never happened, and a reader looks only at files that a manifest names.
Light on purpose (pydantic, fsspec, standard library), because the Airflow side imports it too.
"""

from tasks.contract.blessed import read_blessing
from tasks.contract.champion import (
    ASK_WHO_SERVES,
    CHAMPION,
    LAST_CHAMPION,
    NOBODY,
    Champion,
    format_champion,
    parse_champion,
)
from tasks.contract.champion_records import (
    ChampionRecords,
    Disagreement,
    agreed_champion,
    champion_records,
    check_champion,
)
from tasks.contract.champion_registry import (
    ChampionRegistry,
    History,
    RegistryEntry,
    return_champion,
    says_absent,
)
from tasks.contract.errors import (
    CHECKS,
    EX_CONFIG,
    EX_DATAERR,
    EX_NOINPUT,
    EX_USAGE,
    STAGE_TEXTS,
    STAGES,
    Altered,
    BadConfig,
    BadInput,
    NoInput,
    StageError,
    is_bad_input,
)
from tasks.contract.extra_protocol import (
    EXTRA_PROTOCOL,
    command_line,
    extra_fingerprint,
    protocol_variables,
)
from tasks.contract.filesystem import is_taken, open_filesystem, storage_errors
from tasks.contract.hashing import (
    describe_outputs,
    fingerprint,
    now,
    sha256_file,
    sha256_text,
    stored_tree_files,
    stored_tree_sha256,
    tree_files,
    tree_sha256,
)
from tasks.contract.night import (
    extras_of,
    judged_stages,
    stage_names,
    stages_of,
)
from tasks.contract.owner import PIPELINE_TAG, Owner, foreign_to, owner_by_tags
from tasks.contract.records import Failure, Manifest, Output, old_format
from tasks.contract.release import RELEASE_VARIABLE, check_release, release
from tasks.contract.request import REQUEST, Request, begun
from tasks.contract.run_directory import RunDirectory, run_uri, stored_name, write_atomically
from tasks.contract.verdict import (
    EarlierVerdict,
    ModelIdentity,
    Publication,
    PublishedAnswer,
    RuleResult,
    Verdict,
    not_deployed,
)

__all__ = [
    "ASK_WHO_SERVES",
    "CHAMPION",
    "CHECKS",
    "EXTRA_PROTOCOL",
    "EX_CONFIG",
    "EX_DATAERR",
    "EX_NOINPUT",
    "EX_USAGE",
    "LAST_CHAMPION",
    "NOBODY",
    "PIPELINE_TAG",
    "RELEASE_VARIABLE",
    "REQUEST",
    "STAGES",
    "STAGE_TEXTS",
    "Altered",
    "BadConfig",
    "BadInput",
    "Champion",
    "ChampionRecords",
    "ChampionRegistry",
    "Disagreement",
    "EarlierVerdict",
    "Failure",
    "History",
    "Manifest",
    "ModelIdentity",
    "NoInput",
    "Output",
    "Owner",
    "Publication",
    "PublishedAnswer",
    "RegistryEntry",
    "Request",
    "RuleResult",
    "RunDirectory",
    "StageError",
    "Verdict",
    "agreed_champion",
    "begun",
    "champion_records",
    "check_champion",
    "check_release",
    "command_line",
    "describe_outputs",
    "extra_fingerprint",
    "extras_of",
    "fingerprint",
    "foreign_to",
    "format_champion",
    "is_bad_input",
    "is_taken",
    "judged_stages",
    "not_deployed",
    "now",
    "old_format",
    "open_filesystem",
    "owner_by_tags",
    "parse_champion",
    "protocol_variables",
    "read_blessing",
    "release",
    "return_champion",
    "run_uri",
    "says_absent",
    "sha256_file",
    "sha256_text",
    "stage_names",
    "stages_of",
    "storage_errors",
    "stored_name",
    "stored_tree_files",
    "stored_tree_sha256",
    "tree_files",
    "tree_sha256",
    "write_atomically",
]
