"""The command line of the stages."""

import argparse
import getpass
import inspect
import json
import logging
import os
import re
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.contract import (
    ASK_WHO_SERVES,
    EX_CONFIG,
    EX_USAGE,
    NOBODY,
    RELEASE_VARIABLE,
    STAGE_TEXTS,
    STAGES,
    BadConfig,
    RunDirectory,
    StageError,
    check_release,
)
from tasks.environment import Environment
from tasks.log_lines import STYLED, LineFormatter
from tasks.spec import SpecError, load_pipeline, override, parse_overrides
from tasks.spec.overrides import check_run

if TYPE_CHECKING:
    from tasks.runner import Reuse
from tasks.spec.base import NAME, refusal

log = logging.getLogger("tasks")


def main(arguments: list[str] | None = None) -> int:
    """Run a stage; return 0 when done, 64-78 for bad input, any other code to be retried."""
    # what libraries announce would bury the progress lines
    lines = logging.StreamHandler(sys.stdout)
    lines.setFormatter(LineFormatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[lines])
    log.setLevel(os.environ.get("TRUSTED_RETRAINING_LOG_LEVEL", "INFO"))
    signal.signal(signal.SIGTERM, _terminate)
    try:
        # before the arguments, which may be those of another release
        check_release(os.environ.get(RELEASE_VARIABLE, ""))
    except BadConfig as error:
        log.error("%s", error)
        return error.exit_code
    options = _parser().parse_args(arguments)
    try:
        return int(options.action(options))
    except StageError as error:
        log.error("%s: %s", options.command, error)
        return error.exit_code
    except SpecError as error:
        for line in error.args:
            log.error("%s", line)
        return EX_CONFIG
    except Exception as error:
        log.error("%s: %s: %s", options.command, type(error).__name__, error, exc_info=True)
        return 1


def _run_stage(options: argparse.Namespace) -> int:
    from tasks.runner import run_stage
    from tasks.stages import load_stage

    environment = Environment.read()
    manifest = run_stage(
        load_stage(options.command),
        **_asked(options, environment),
        run=RunDirectory(options.run_uri),
        environment=replace(environment, served=options.served or environment.served),
        reuse=_reuse(options),
        judged=options.judged,
    )
    how = "reused" if manifest.reused_from else f"{manifest.seconds:.1f} s"
    log.info("%s: done (%s, %d outputs)", manifest.stage, how, len(manifest.outputs))
    return 0


def _run_extra(options: argparse.Namespace) -> int:
    from tasks.runner import fetch_for, run_stage
    from tasks.stages.extra import Extra, Reused

    run, environment = RunDirectory(options.run_uri), Environment.read()
    asked = _asked(options, environment)
    pipeline = asked["pipeline"]
    wanted = pipeline.extra_stage(options.name)
    if wanted is None:
        known = ", ".join(each.name for each in pipeline.extra_stages) or "none"
        raise BadConfig(f"{pipeline.name}: extra_stages: there is no {options.name!r}; {known}")
    exchange = Path(options.exchange) if options.exchange else None
    if options.phase in ("fetch", "commit") and exchange is None:
        raise BadConfig(f"--phase {options.phase} needs --exchange, the pod's volume")
    if options.phase == "fetch":
        stage = Extra(wanted, exchange=exchange)
        fetch_for(stage, **asked, run=run, environment=environment)
        return 0
    manifest = run_stage(
        Reused(wanted) if options.phase == "reuse" else Extra(wanted, exchange=exchange),
        **asked,
        run=run,
        environment=environment,
        # the container has run: what it left is the result
        reuse="own" if options.phase == "commit" and not options.force else _reuse(options),
    )
    how = "reused" if manifest.reused_from else f"{manifest.seconds:.1f} s"
    log.info("%s: done (%s, %d outputs)", manifest.stage, how, len(manifest.outputs))
    return 0


def _champion(options: argparse.Namespace) -> int:
    from tasks.champion_command import Correction, correct_champion, show_champion

    environment = Environment.read().with_own_registry()
    environment = replace(environment, served=options.served or environment.served)
    model = options.model or load_pipeline(options.spec).model_name
    _check_correction(options, environment)
    if not options.set:
        show_champion(environment, model)
        return 0
    correction = Correction(
        record=options.set,
        version=options.version,
        user=options.user or getpass.getuser(),
        reason=options.reason.strip(),
        pipeline=options.pipeline,
    )
    correct_champion(environment, model, correction)
    return 0


def _check_correction(options: argparse.Namespace, environment: Environment) -> None:
    """Refuse words that would be ignored: whoever wrote them believes that they were recorded."""
    pipeline = options.pipeline
    if not options.set:
        for name in ("pipeline", "version", "reason"):
            if getattr(options, name):
                raise BadConfig(f"--{name} does nothing without --set, which names the record")
        return
    if not options.reason.strip():
        raise BadConfig("--set needs --reason: it is recorded with the version")
    if pipeline and not re.fullmatch(NAME, pipeline):
        raise BadConfig(f"--pipeline {pipeline[:100]!r} is no name of a pipeline, such as films")
    if pipeline and options.set == NOBODY and environment.served:
        raise BadConfig(
            "--pipeline is recorded with a champion, and --set none leaves none: leave it out"
        )


def _close(options: argparse.Namespace) -> int:
    from tasks.tracking import close_run

    close_run(RunDirectory(options.run_uri), Environment.read().with_own_registry())
    return 0


def _reuse(options: argparse.Namespace) -> "Reuse":
    if options.force:
        return "none"
    return "own" if options.no_cache else "all"


def _asked(options: argparse.Namespace, environment: Environment) -> dict[str, Any]:
    """Return the pipeline as this run has it, as its file has it, and who asked for the run."""
    given = load_pipeline(options.spec)
    pipeline = override(given, parse_overrides(options.set))
    if options.file is None:
        return {"pipeline": pipeline, "file": given, "requested_by": _user()}
    # from an operator: whoever triggered the run is not the owner of the file
    file = load_pipeline(options.file)
    check_run(file, pipeline, allowed=environment.allowed_addresses or ())
    return {"pipeline": pipeline, "file": file, "requested_by": options.requested_by}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # a container whose user has no name
        return str(os.getuid())


def _summarize(options: argparse.Namespace) -> int:
    from tasks.reporting.summary import SUMMARY, read_summary, write_last_run
    from tasks.reporting.table import render_table

    run = RunDirectory(options.run_uri)
    summary = read_summary(run)
    environment = Environment.read()
    run.write_json(SUMMARY, summary)
    write_last_run(summary, environment)
    table = render_table(summary, run=run, environment=environment, colour=_colour_wanted())
    for line in table.splitlines():
        log.info("%s", line, extra=STYLED)
    return 0


def _print_reference(_: argparse.Namespace) -> int:
    from tasks.spec.reference import reference

    for line in reference().rstrip("\n").split("\n"):
        log.info("%s", line)
    return 0


def _print_components(_: argparse.Namespace) -> int:
    from tasks.catalogue import catalogue

    for line in catalogue().rstrip("\n").split("\n"):
        log.info("%s", line)
    return 0


def _compare_splits(options: argparse.Namespace) -> int:
    from tasks.contract import NoInput
    from tasks.native_log import import_tensorflow
    from tasks.stages.base import StageInput
    from tasks.storage import InputCache, Workspace

    pipeline = override(load_pipeline(options.spec), parse_overrides(options.set))
    if options.repeats < 1:
        raise BadConfig(f"--repeats {options.repeats} must be 1 or more")
    run = RunDirectory(options.run_uri)
    manifest = run.read_manifest("arrange")
    if manifest is None:
        raise NoInput(f"{run.stage_uri('arrange')} holds no manifest: run stage 'arrange' first")
    import_tensorflow()
    from tasks.data import Arranged
    from tasks.naive_split import compare_splits, sentences

    with Workspace(Environment.read().scratch) as workspace:
        arranged = Arranged(StageInput(manifest, InputCache(workspace, run.storage_options)))
        found = compare_splits(arranged, pipeline, repeats=options.repeats)
        for line in sentences(found, arranged.classes):
            log.info("%s", line)
    if options.out:
        Path(options.out).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


def _generate(options: argparse.Namespace) -> int:
    from tasks.data.synthetic import generate

    if options.rows < 1 or options.size < 32:
        raise BadConfig(
            f"--rows {options.rows} must be 1 or more, --size {options.size} 32 or more"
        )
    generate(
        Path(options.out),
        rows=options.rows,
        variant=options.variant,
        size=options.size,
        seed=options.seed,
    )
    return 0


def _colour_wanted() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m tasks",
        description="Runs one stage of a night. Exit codes: 0 done; 64-78 bad input or "
        "configuration, not worth a retry; anything else may be retried.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="STAGE")
    for name in STAGES:
        # the stage's module is imported only when it is the one asked for
        command = commands.add_parser(name, add_help=False, help=STAGE_TEXTS[name])
        command.add_argument("--help", "-h", action=_StageHelp)
        _add_run_arguments(command)
        # of an operator: the verdict that the task of bless has handed on
        command.add_argument("--judged", default="", help=argparse.SUPPRESS)
        command.set_defaults(action=_run_stage, served="")
        if name in ASK_WHO_SERVES:
            command.add_argument(
                "--served",
                metavar="VERSION:DIGEST",
                help="what serves on a cluster, or none; on one machine its pointer is read",
            )
    extra = commands.add_parser("extra", help="run an extra stage of the pipeline file")
    extra.add_argument("name", metavar="NAME", help="its name in extra_stages")
    _add_run_arguments(extra)
    extra.add_argument(
        "--phase",
        choices=["all", "fetch", "commit", "reuse"],
        default="all",
        help="all: run its command here; the others are the steps of its pod: fetch the inputs, "
        "commit what the container left, or take over an earlier result",
    )
    extra.add_argument("--exchange", default="", metavar="FOLDER", help="the pod's volume")
    extra.set_defaults(action=_run_extra)
    summary = commands.add_parser("summary", help="write and print what became of a run")
    summary.add_argument(
        "--run-uri", required=True, type=_address, help="folder or address of the run"
    )
    summary.set_defaults(action=_summarize)
    end = commands.add_parser("close", help="end a run's MLflow run that was left running")
    end.add_argument("--run-uri", required=True, type=_address, help="folder or address of the run")
    end.set_defaults(action=_close)
    champion = commands.add_parser(
        "champion", help="show the records of who serves side by side, and put one right"
    )
    whose = champion.add_mutually_exclusive_group(required=True)
    whose.add_argument("--model", help="name of the registered and served model")
    whose.add_argument("--spec", help="pipeline file that it belongs to")
    champion.add_argument(
        "--served", default="", metavar="VERSION:DIGEST", help="what serves on a cluster, or none"
    )
    champion.add_argument(
        "--set",
        choices=["registry", "served", "none"],
        help="the record to be put right: registry moves the alias to what serves (or to "
        "--version), served points at the registry's champion, none says that nothing is champion",
    )
    champion.add_argument("--version", default="", help="the version meant, where nothing says it")
    champion.add_argument(
        "--pipeline",
        default="",
        help="with --set: the pipeline that the model belongs to from now on",
    )
    champion.add_argument("--user", default="", help="who decides it (the user of this process)")
    champion.add_argument("--reason", default="", help="why; recorded, needed with --set")
    champion.set_defaults(action=_champion)
    page = commands.add_parser("reference", help="print the reference of the pipeline file")
    page.set_defaults(action=_print_reference)
    components = commands.add_parser("components", help="print the catalogue of components")
    components.set_defaults(action=_print_components)
    splits = commands.add_parser(
        "naive-split",
        help="train anew with a random split of the images and with one by groups, and say what "
        "the former would have claimed",
    )
    _add_run_arguments(splits, force=False)
    splits.add_argument("--repeats", type=int, default=3, help="trainings of each kind (3)")
    splits.add_argument("--out", default="", metavar="FILE", help="JSON of all figures")
    splits.set_defaults(action=_compare_splits)
    films = commands.add_parser("generate", help="write a data set of generated chest films")
    films.add_argument("--out", required=True, help="folder to be written")
    films.add_argument("--rows", type=int, default=900, help="rows of the table (900)")
    films.add_argument("--variant", choices=["plain", "biased"], default="plain")
    films.add_argument("--size", type=int, default=96, help="side of the films in pixels (96)")
    films.add_argument("--seed", type=int, default=7, help="same seed, same bytes (7)")
    films.set_defaults(action=_generate)
    return parser


def _add_run_arguments(command: argparse.ArgumentParser, *, force: bool = True) -> None:
    command.add_argument(
        "--run-uri", required=True, type=_address, help="folder or address of the run"
    )
    command.add_argument("--spec", required=True, help="pipeline file, or its JSON")
    command.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="override a field"
    )
    # of an operator: the pipeline file as it is, of which --spec is the changed state; and by whom
    command.add_argument("--file", help=argparse.SUPPRESS)
    command.add_argument("--requested-by", default="", help=argparse.SUPPRESS)
    if force:
        command.add_argument("--force", action="store_true", help="compute even if a result exists")
        command.add_argument(
            "--no-cache",
            action="store_true",
            help="take over no other run's result; what this run has computed itself is kept",
        )


def _address(text: str) -> str:
    # it is stored in every manifest, and in MLflow
    why = refusal(text)
    if why is not None:
        raise argparse.ArgumentTypeError(why)
    return text


class _Parser(argparse.ArgumentParser):
    """Exits with the sysexits code, so that a typo in a pod spec is not retried all night."""

    def error(self, message: str) -> None:  # type: ignore[override]
        self.print_usage(sys.stderr)
        self.exit(EX_USAGE, f"{self.prog}: {message}\n")


class _StageHelp(argparse.Action):
    def __init__(self, option_strings: list[str], dest: str, **_: object) -> None:
        super().__init__(option_strings, dest, nargs=0, help="show this text and leave")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from tasks.stages import load_stage

        stage = load_stage(parser.prog.rsplit(" ", 1)[-1])
        parser.description = inspect.getdoc(type(stage))
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        reads = ", ".join(stage.reads) or "the source"
        writes = "\n".join(f"  {name:<24} {text}" for name, text in stage.produces.items())
        parser.epilog = (
            f"reads: {reads}\nwrites:\n{writes}\n  manifest.json            last: the commit"
        )
        parser.print_help()
        parser.exit()


def _terminate(signum: int, _: object) -> None:
    """End like a killed process would, but let ``finally`` blocks and child processes be tidied."""
    sys.exit(128 + signum)
