"""``docs/results.md``, written from the runs."""

from collections.abc import Iterable, Sequence

from benchmarks.published.experiments import Experiment
from benchmarks.published.runs import Run
from benchmarks.published.statistics import estimate

HEAD = """# Results

Written by `make results` from the runs in `benchmarks/published/runs.json`; edits are lost. Every
figure is of the test set. Intervals are 95 % (Student's t over the seeds of training); a value
without an interval is of one run. Seeds run one after another, as nights do: each is compared with
the champion that those before it have left, and refused when it is worse by more than its pipeline
allows.

"""


def render(experiments: Sequence[Experiment], runs: Sequence[Run]) -> str:
    """Return the page: a summary, then a section an experiment."""
    of = {one.name: [run for run in runs if run["experiment"] == one.name] for one in experiments}
    there = [experiment for experiment in experiments if of[experiment.name]]
    lines = ["| experiment | metric | original | ours | seeds | blessed |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for experiment in there:
        mine = of[experiment.name]
        blessed = sum(run["blessed"] for run in mine)
        lines.append(
            f"| [{experiment.title}](#{anchor(experiment.title)}) | `{experiment.key}` "
            f"| {_original(experiment)} | {_value(mine, experiment.key)} | {len(mine)} "
            f"| {blessed} of {len(mine)} |"
        )
    sections = [section(experiment, of[experiment.name]) for experiment in there]
    return HEAD + "\n".join(lines) + "\n\n" + "\n".join(sections)


def section(experiment: Experiment, runs: Sequence[Run]) -> str:
    """Return what is to be said of one experiment."""
    original = experiment.original
    lines = [f"## {experiment.title}", ""]
    lines.append(
        f"Pipeline [`{experiment.pipeline}`](../dags/pipelines/{experiment.pipeline}.yaml), "
        f"{_settings(experiment)}; revision {', '.join(sorted({run['revision'] for run in runs}))}."
    )
    said = "no figure" if original.value is None else f"{original.value:g}"
    lines += [f"The original, {original.source}: {said}, {original.what}.", ""]
    lines += ["| metric | ours |", "| --- | --- |"]
    for metric in [experiment.key, *experiment.metrics]:
        lines.append(f"| `{metric}` | {_value(runs, metric)} |")
    work = [sum(run["stages"].values()) for run in runs]
    seconds = f"{min(work):.0f}" if len(work) == 1 else f"{min(work):.0f} to {max(work):.0f}"
    lines.append(f"| seconds of the stages that were computed | {seconds} |")
    refused = sorted({metric for run in runs for metric in run["refused_by"]})
    verdicts = _count(run["blessed"] for run in runs)
    reason = f" Refused by {', '.join(f'`{metric}`' for metric in refused)}." if refused else ""
    return "\n".join([*lines, "", f"{verdicts}{reason}", ""])


def anchor(title: str) -> str:
    """Return a heading's name as a link's target."""
    kept = "".join(letter for letter in title.lower() if letter.isalnum() or letter in " -_")
    return kept.replace(" ", "-")


def _original(experiment: Experiment) -> str:
    return "-" if experiment.original.value is None else f"{experiment.original.value:g}"


def _value(runs: Sequence[Run], metric: str) -> str:
    values = [run["metrics"][metric] for run in runs if metric in run["metrics"]]
    if not values:
        return "-"
    missing = len(runs) - len(values)
    return f"{estimate(values)}" + (f", {missing} without" if missing else "")


def _settings(experiment: Experiment) -> str:
    changes = [f"`{name}={value}`" for name, value in experiment.settings.items()]
    return f"with {', '.join(changes)}" if changes else "as it is"


def _count(verdicts: Iterable[bool]) -> str:
    seen = list(verdicts)
    return f"Blessed: {sum(seen)} of {len(seen)}."
