"""Tables of metrics with their meaning, the same way in every section."""

from collections.abc import Mapping

from tasks.reporting import wording
from tasks.reporting.facts import StageFacts
from tasks.reporting.glossary import find_term
from tasks.reporting.view import Cell, Table, number_cell


def metric_table(
    stage: StageFacts, names: list[str], *, title: str = "", explain: bool = True
) -> Table | None:
    """Return a table of the named metrics that the stage has; None when it has none of them.

    Parameters
    ----------
    stage : StageFacts
        Where the values, intervals and notes are from.
    names : list of str
        Metric names without the stage; one with ``.low`` and ``.high`` beside it has an interval.
    title : str
        Heading of the table.
    explain : bool
        Say what each metric means; a second table of the same metrics need not.
    """
    metrics, notes = stage.metrics, stage.notes
    rows = []
    for name in names:
        if name not in metrics:
            continue
        term = find_term(name)
        around = wording.interval(metrics.get(f"{name}.low"), metrics.get(f"{name}.high"))
        rows.append(
            [
                Cell(term.title if term else name.replace("_", " "), hint=f"{stage.name}.{name}"),
                number_cell(wording.number(metrics[name], name=name), around),
                Cell(term.ideal if term else ""),
                Cell(term.meaning, hint=notes.get(name, ""))
                if term and explain
                else Cell(notes.get(name, "")),
            ]
        )
    if not rows:
        return None
    last = "What it says" if explain else "Groups"
    return Table(title=title, headings=["Metric", "Value", "Ideal", last], rows=rows)


def other_metrics(
    stage: StageFacts, shown: set[str], *, title: str = "All other figures"
) -> Table | None:
    """Return a folded table of every metric that no other table shows: nothing is hidden."""
    names = [
        name for name in stage.metrics if name not in shown and not is_bound(name, stage.metrics)
    ]
    if not names:
        return None
    rows = [
        [
            Cell(f"{stage.name}.{name}", "code"),
            number_cell(wording.number(stage.metrics[name], name=name)),
            Cell(stage.notes.get(name, "")),
        ]
        for name in names
    ]
    return Table(title=title, headings=["Metric", "Value", "Note"], rows=rows, folded=True)


def is_bound(name: str, metrics: Mapping[str, float]) -> bool:
    """Tell whether a metric is an end of another one's interval."""
    return name.endswith((".low", ".high")) and name.rpartition(".")[0] in metrics


def value_cell(value: object, column: str) -> Cell:
    """Return a cell for a value of a check's document: a text, a number, or a rate, which comes
    with its interval and the counts that it rests on."""
    if isinstance(value, dict):
        low, high = _as_float(value.get("low")), _as_float(value.get("high"))
        if value.get("value") is None:
            return number_cell(str(value.get("absent", "no rows")))
        rows = value.get("rows")
        text = f"{value['hits']} of {rows}" if "hits" in value else f"of {rows}"
        around = wording.interval(low, high)
        hint = f"{text}\n{around}" if around else text
        return number_cell(wording.number(_as_float(value["value"])), hint)
    if isinstance(value, bool):
        return Cell("yes" if value else "no")
    if isinstance(value, int):
        return number_cell(f"{value:,}")
    if isinstance(value, float):
        return number_cell(wording.number(value, name=column))
    return Cell("" if value is None else str(value))


def _as_float(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
