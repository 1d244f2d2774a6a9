"""What a stage becomes in MLflow: parameters, metrics, tags, data set, artifacts."""

import csv
import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.contract import Manifest, RunDirectory
from tasks.spec import Pipeline
from tasks.spec.masking import masked, masked_deep
from tasks.storage import InputCache

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Metric

PARAM_LENGTH, TAG_LENGTH, KEY_LENGTH, DIGEST_LENGTH = 6000, 5000, 250, 36
"""Lengths that MLflow allows a parameter, a tag, a name and a data set's digest."""

PARAMS_PER_BATCH, METRICS_PER_BATCH = 100, 1000
"""Entries that MLflow takes in one request."""

_ARTIFACT_SUFFIXES = {".png", ".svg", ".json", ".csv", ".html", ".md", ".txt"}
_ARTIFACT_NAMES = {"predictions.parquet"}
_ARTIFACT_BYTES = 50_000_000


def parameters(pipeline: Pipeline) -> dict[str, str]:
    """Return the pipeline as flat MLflow parameters, ``train.epochs`` and the like.

    Lists are JSON; a value longer than MLflow allows ends in ``...``.
    """
    flat: dict[str, str] = {}

    def collect(name: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                collect(f"{name}.{key}" if name else key, inner)
            return
        text = value if isinstance(value, str) else json.dumps(value)
        flat[name] = text if len(text) <= PARAM_LENGTH else f"{text[: PARAM_LENGTH - 3]}..."

    collect("", masked_deep(json.loads(pipeline.to_json())))
    # shown as the experiment's name, the run's description and its tags already
    for name in ("name", "description", "tags", "owner"):
        flat.pop(name, None)
    names = metric_names(flat)
    return {names[name]: text for name, text in flat.items()}


def metric_names(names: Iterable[str]) -> dict[str, str]:
    """Return for each name one that MLflow accepts: classes and groups may hold any character.

    MLflow takes letters and digits of any script, ``_ . - : /`` and blanks. Other characters become
    ``_``, and a name that is too long is cut. Where that could make one name of two, a digest of
    the whole name follows: always for names outside ASCII; for others only if another of ``names``
    becomes the same, so that trends of earlier runs go on.
    """
    accepted = {name: _accepted(name) for name in names}
    uses = Counter(accepted.values())
    for name, text in accepted.items():
        if text != name and (uses[text] > 1 or not name.isascii()):
            digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
            accepted[name] = f"{text[: KEY_LENGTH - 1 - len(digest)]}-{digest}"
    return accepted


def _accepted(name: str) -> str:
    safe = re.sub(r"[^\w.\- :/]", "_", name)
    # MLflow takes names for paths, and refuses those that a file system would shorten
    safe = "/".join(part if part.strip(".") else "_" for part in safe.split("/"))
    return safe[:KEY_LENGTH]


def stage_metrics(manifest: Manifest, cache: InputCache) -> list["Metric"]:
    """Return the manifest's metrics, the stage's seconds and rows, and ``train``'s epochs."""
    from mlflow.entities import Metric

    stamp = _milliseconds(manifest)
    values = dict(manifest.metrics)
    values[f"{manifest.stage}.seconds"] = manifest.seconds
    for name, rows in (("rows_in", manifest.rows_in), ("rows_out", manifest.rows_out)):
        if rows is not None:
            values[f"{manifest.stage}.{name}"] = float(rows)
    names = metric_names(values)
    metrics = [
        Metric(names[name], value, stamp, 0)
        for name, value in values.items()
        if math.isfinite(value)
    ]
    for step, row in _epochs(manifest, cache):
        names = metric_names(f"train.epoch.{name}" for name in row)
        metrics += [Metric(names[f"train.epoch.{k}"], v, stamp, step) for k, v in row.items()]
    return metrics


def stage_tags(manifest: Manifest, run: RunDirectory) -> dict[str, str]:
    """Return code version, origin and warnings of a stage; of ``bless``, the verdict as well."""
    stage = manifest.stage
    tags = {
        f"code.{stage}": manifest.code_version,
        f"reused.{stage}": manifest.reused_from or "no",
        f"warnings.{stage}": "\n".join(manifest.warnings),
    }
    tags |= {f"address.{name}": address for name, address in manifest.addresses.items()}
    verdict = run.read_verdict() if stage == "bless" else None
    if verdict is not None:
        tags["blessed"] = str(verdict.may_serve).lower()
        tags["verdict"] = verdict.word
        tags["verdict.reasons"] = "\n".join(verdict.reasons) or verdict.refusal
        tags["requested_by"] = verdict.requested_by
        tags["changed"] = "\n".join(change.in_words for change in verdict.changes)
        tags["model.digest"] = verdict.model.digest
        tags["model.version"] = verdict.model.version or ""
    # MLflow shows an empty tag like any other; leaving it out keeps the page readable
    return {name: masked(text)[:TAG_LENGTH] for name, text in tags.items() if text}


def dataset_input(manifest: Manifest, pipeline: Pipeline) -> "DatasetInput":
    """Return the arranged images as the run's data set: name, digest, source and counts."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = masked_deep(pipeline.source.model_dump(mode="json"))
    uri = str(source.get("uri", ""))
    kind = "http" if uri.startswith("http") else "s3" if uri.startswith("s3:") else "local"
    counts = {name.removeprefix("arrange."): value for name, value in manifest.metrics.items()}
    dataset = Dataset(
        name=pipeline.name,
        digest=manifest.outputs_digest[:DIGEST_LENGTH],
        source_type=kind if uri else "code",
        source=json.dumps({"url" if kind == "http" else "uri": uri, **source}),
        profile=json.dumps({"num_rows": manifest.rows_out, **counts}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


def artifact_files(manifest: Manifest, cache: InputCache) -> list[Path]:
    """Return local copies of the files worth showing: figures, tables, pages; no image trees."""
    return [
        cache.path(manifest, output.path)
        for output in manifest.outputs
        if (Path(output.path).suffix in _ARTIFACT_SUFFIXES or output.path in _ARTIFACT_NAMES)
        and output.bytes <= _ARTIFACT_BYTES
    ]


def batches(
    *, params: dict[str, str], metrics: list["Metric"], tags: dict[str, str]
) -> Iterator[dict[str, Any]]:
    """Yield the arguments of as few ``log_batch`` calls as MLflow's limits allow."""
    from mlflow.entities import Param, RunTag

    rest_params = [Param(*item) for item in params.items()]
    rest_tags = [RunTag(*item) for item in tags.items()]
    # 1000 entries in all: 100 parameters, 100 tags, the rest metrics
    room = METRICS_PER_BATCH - 2 * PARAMS_PER_BATCH
    while rest_params or metrics or rest_tags:
        yield {
            "params": rest_params[:PARAMS_PER_BATCH],
            "metrics": metrics[:room],
            "tags": rest_tags[:PARAMS_PER_BATCH],
        }
        rest_params, metrics = rest_params[PARAMS_PER_BATCH:], metrics[room:]
        rest_tags = rest_tags[PARAMS_PER_BATCH:]


def _milliseconds(manifest: Manifest) -> int:
    """Return the time of the result, the same whenever it is logged, so that nothing doubles."""
    try:
        return int(datetime.fromisoformat(manifest.started_at).timestamp() * 1000)
    except ValueError:
        return int(datetime(2000, 1, 1, tzinfo=UTC).timestamp() * 1000)


def _epochs(manifest: Manifest, cache: InputCache) -> Iterator[tuple[int, dict[str, float]]]:
    if not any(output.path == "history.csv" for output in manifest.outputs):
        return
    with cache.path(manifest, "history.csv").open(encoding="utf-8") as stream:
        for position, row in enumerate(csv.DictReader(stream), start=1):
            values = {}
            for name, text in row.items():
                try:
                    value = float(text)
                except (TypeError, ValueError):
                    continue
                if math.isfinite(value):
                    values[str(name)] = value
            step = int(values.pop("epoch", position))
            yield step, values
