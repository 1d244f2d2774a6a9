"""Section on the stages that are this pipeline's own."""

from pathlib import PurePosixPath

from tasks.reporting import wording
from tasks.reporting.facts import RunFacts, StageFacts
from tasks.reporting.view import Cell, Figure, Remark, Section, Table, number_cell
from tasks.spec import after_verdict

MOST_PICTURES = 8
"""Pictures shown of one stage."""


def extra_section(run: RunFacts) -> Section:
    """Return what each extra stage measured and drew.

    Parameters
    ----------
    run : RunFacts
        The run.
    """
    section = Section(
        key="extra",
        title="Extra stages",
        lead="Programs of this pipeline's own. What they measured is shown as they reported it.",
    )
    late = after_verdict(run.extras.values())
    for name, extra in run.extras.items():
        stage = run.stages[name]
        when = "after the verdict" if name in late else "counts for the verdict"
        section.facts.append((name, extra.description or f"{when}, after {', '.join(extra.after)}"))
        if stage.manifest is None:
            spared = name in run.spared and stage.failure is None
            text = f"{name}: {'not needed this night' if spared else stage.absence}"
            section.remarks.append(Remark(text=text, serious=not spared))
            continue
        if stage.metrics:
            section.tables.append(_measured(stage))
        for picture in stage.outputs(".png")[:MOST_PICTURES]:
            title = PurePosixPath(picture).stem.replace("_", " ")
            section.figures.append(Figure(stage=name, name=picture, title=f"{name}: {title}"))
    return section


def _measured(stage: StageFacts) -> Table:
    rows = []
    for name, value in stage.metrics.items():
        whole, _, end = name.rpartition(".")
        if end in ("low", "high") and whole in stage.metrics:
            continue
        around = wording.interval(
            stage.metrics.get(f"{name}.low"), stage.metrics.get(f"{name}.high")
        )
        cell = number_cell(wording.number(value, name=name), around)
        rows.append([Cell(f"{stage.name}.{name}", "code"), cell])
    return Table(title=stage.name, headings=["Metric", "Value"], rows=rows)
