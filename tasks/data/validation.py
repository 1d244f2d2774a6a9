"""Checks the arranged data before a GPU is spent on it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from tasks.data.check import Check, Severity
from tasks.data.functions import as_text
from tasks.data.near_duplicates_checks import check_near_duplicates
from tasks.data.spellings import spelling_problem
from tasks.spec import Pipeline, ProtectedAttribute
from tasks.spec.trust import GROUP_SEPARATOR

if TYPE_CHECKING:
    import pandas as pd


def validate(
    table: "pd.DataFrame",
    classes: list[str],
    *,
    taken_in: dict[str, Any],
    pipeline: Pipeline,
    near_duplicates: dict[str, Any] | None = None,
) -> list[Check]:
    """Check an arranged data set.

    Parameters
    ----------
    table : DataFrame
        ``images.parquet``.
    classes : list of str
        Class names.
    taken_in : dict
        ``summary.json`` of ingest.
    pipeline : Pipeline
        Limits, and the columns that later stages need.
    near_duplicates : dict, optional
        ``near_duplicates.json`` of arrange.

    Returns
    -------
    list of Check
        Every check, whatever it found.
    """
    limits = pipeline.validation
    checks = [_columns(table, pipeline), _rows(table, limits.min_rows)]
    checks += _class_sizes(table, classes, pipeline)
    checks += [_class_share(table, limits.max_class_share), _intake(taken_in)]
    checks += [
        _leakage(table, "group_key", "the same group", limits.leakage),
        _leakage(table, "image_sha256", "the same image", limits.leakage),
        _conflicting_labels(table, pipeline.label.max_conflicting),
        _duplicates(table),
        *check_near_duplicates(table, near_duplicates or {}, pipeline.split.group),
    ]
    checks += [_favourable(classes, pipeline.fairness.favourable), *_groups(table, pipeline)]
    return checks


def _columns(table: "pd.DataFrame", pipeline: Pipeline) -> Check:
    wanted = dict.fromkeys(pipeline.validation.required_columns, "validate.required_columns")
    for protected in pipeline.fairness.protected:
        for column in protected.columns:
            wanted.setdefault(column, "fairness.protected")
    absent = [f"{name!r} ({asked_by})" for name, asked_by in wanted.items() if name not in table]
    if absent:
        have = ", ".join(str(name) for name in table.columns[:40])
        return Check("columns", "error", f"no column {', '.join(absent[:5])}; there are {have}")
    empty = [name for name in wanted if table[name].isna().all()]
    if empty:
        return Check("columns", "error", f"column {', '.join(map(repr, empty[:5]))} is all blank")
    return Check("columns", "ok", f"all {len(wanted)} columns that are needed are there")


def _rows(table: "pd.DataFrame", least: int) -> Check:
    counts = {"rows": len(table)}
    if len(table) < least:
        message = f"{len(table)} usable rows; validate.min_rows asks for {least}"
        return Check("rows", "error", message, counts)
    return Check("rows", "ok", f"{len(table)} usable rows", counts)


def _class_sizes(table: "pd.DataFrame", classes: list[str], pipeline: Pipeline) -> Iterator[Check]:
    limits = pipeline.validation
    test = table[table["split_side"] == "test"]
    train = table[table["split_side"] == "train"]
    for name, rows, least, setting in (
        ("class sizes", table, limits.min_per_class, "validate.min_per_class"),
        (
            "class sizes in the test set",
            test,
            limits.min_test_per_class,
            "validate.min_test_per_class",
        ),
        ("class sizes in the training set", train, 1, "training"),
    ):
        found = rows["class_name"].value_counts()
        counts = {class_name: int(found.get(class_name, 0)) for class_name in classes}
        small = [f"{c} has {n}" for c, n in counts.items() if n < least]
        if small:
            message = f"{', '.join(small[:5])} of at least {least} rows ({setting})"
            if len(small) > 5:
                message += f", and {len(small) - 5} more"
            yield Check(name, "error", message, counts)
        else:
            listed = ", ".join(f"{c} {n}" for c, n in list(counts.items())[:12])
            yield Check(name, "ok", listed, counts)


def _class_share(table: "pd.DataFrame", most: float) -> Check:
    counts = table["class_name"].value_counts()
    name, share = str(counts.index[0]), counts.iloc[0] / max(1, len(table))
    message = f"{name} is {share:.1%} of the rows"
    if share > most:
        return Check(
            "class balance", "warning", f"{message}; validate.max_class_share is {most:.1%}"
        )
    return Check("class balance", "ok", message)


def _intake(taken_in: dict[str, Any]) -> Check:
    counts = {name: int(taken_in[name]) for name in ("rows", "usable", "missing", "quarantined")}
    message = (
        f"{counts['missing']} of {counts['rows']} rows without image, "
        f"{counts['quarantined']} images quarantined"
    )
    repeated = int(taken_in.get("by_status", {}).get("repeated", 0))
    if repeated:
        counts["repeated"] = repeated
        message += f", {repeated} rows that name the file of an earlier one"
    unusable = counts["usable"] < counts["rows"]
    return Check("missing and unusable images", "warning" if unusable else "ok", message, counts)


def _leakage(
    table: "pd.DataFrame", key: str, what: str, meaning: Literal["error", "warn"]
) -> Check:
    name = f"{what} on both sides of the split"
    sides = table.groupby(key)["split_side"].nunique()
    shared = sides.index[sides > 1]
    rows = table[table[key].isin(shared)]
    counts = {"shared": len(shared), "rows": len(rows)}
    if shared.empty:
        return Check(name, "ok", f"{what} is never on both sides", counts)
    shown = rows[rows[key].isin(shared[:5])].sort_values([key, "split_side"])
    examples = "; ".join(
        " and ".join(f"{side} {i}" for side, i in _one_a_side(group))
        for _, group in shown.groupby(key)
    )
    message = (
        f"{len(shared)} times {what} is on both sides ({len(rows)} rows): {examples}; "
        "split by hash of a group, or set validate.leakage to warn"
    )
    return Check(name, "error" if meaning == "error" else "warning", message, counts)


def _one_a_side(group: "pd.DataFrame") -> list[tuple[str, str]]:
    firsts = group.drop_duplicates("split_side")
    return list(zip(firsts["split_side"], firsts["image_id"], strict=True))


def _conflicting_labels(table: "pd.DataFrame", most: float) -> Check:
    labels = table.groupby("image_sha256")["class_name"].nunique()
    torn = table[table["image_sha256"].isin(labels.index[labels > 1])]
    counts = {"images": int((labels > 1).sum()), "rows": len(torn)}
    if torn.empty:
        return Check("one label an image", "ok", "equal images have equal labels", counts)
    pairs = zip(torn["image_id"].head(5), torn["class_name"].head(5), strict=True)
    examples = ", ".join(f"{image_id} ({name})" for image_id, name in pairs)
    share = counts["images"] / len(labels)
    message = (
        f"{counts['images']} images are there with different labels ({share:.1%}; "
        f"label.max_conflicting is {most:.1%}): {examples}"
    )
    severity: Severity = "error" if share > most else "warning"
    return Check("one label an image", severity, message, counts)


def _duplicates(table: "pd.DataFrame") -> Check:
    again = table["image_sha256"].duplicated()
    counts = {"rows": int(again.sum())}
    if not again.any():
        return Check("duplicate images", "ok", "every image is there once", counts)
    examples = ", ".join(table.loc[again, "image_id"].head(5))
    message = f"{counts['rows']} rows repeat the content of another image: {examples}"
    return Check("duplicate images", "warning", message, counts)


def _favourable(classes: list[str], favourable: str) -> Check:
    """Find out before a GPU is spent: where the file declares no classes, the data name them."""
    name = "favourable outcome"
    if favourable == "correct" or favourable in classes:
        return Check(name, "ok", f"{favourable!r} is known")
    listed = ", ".join(classes[:20])
    message = (
        f"fairness.favourable {favourable!r} is neither 'correct' nor a class; there is {listed}"
    )
    return Check(name, "error", message)


def _groups(table: "pd.DataFrame", pipeline: Pipeline) -> Iterator[Check]:
    """Count classes within each protected group, on the side on which fairness is judged."""
    test = table[table["split_side"] == "test"]
    for column in dict.fromkeys(c for p in pipeline.fairness.protected for c in p.columns):
        problem = spelling_problem(as_text(table[column]), column) if column in table else None
        if problem:
            yield Check(f"one spelling a value of {column}", "warning", problem)
    for protected in pipeline.fairness.protected:
        name = protected.attribute
        if any(column not in table or table[column].isna().all() for column in protected.columns):
            continue
        groups = _protected_groups(test, protected)
        counted = test.groupby([groups.fillna("(blank)"), "class_name"]).size()
        counts = {", ".join(map(str, pair)): int(n) for pair, n in dict(counted).items()}
        sizes = {str(g): int(n) for g, n in groups.fillna("(blank)").value_counts().items()}
        listed = ", ".join(f"{group} {number}" for group, number in list(sizes.items())[:12])
        declared = {*protected.privileged, *protected.unprivileged}
        unknown = sorted(declared - set(groups.dropna()))
        small = [g for g, n in sizes.items() if n < pipeline.fairness.min_group and g != "(blank)"]
        title = f"groups of {name} in the test set"
        if unknown:
            yield Check(
                title,
                "warning",
                f"no test row is {', '.join(unknown[:5])}; there are {listed}",
                counts,
            )
        elif small:
            least = pipeline.fairness.min_group
            more = f" and {len(small) - 5} more" if len(small) > 5 else ""
            message = (
                f"{', '.join(small[:5])}{more} below {least} rows are not judged; "
                f"there are {listed}"
            )
            yield Check(title, "warning", message, counts)
        else:
            yield Check(title, "ok", listed, counts)


def _protected_groups(rows: "pd.DataFrame", protected: ProtectedAttribute) -> "pd.Series[Any]":
    """Return the group of each row; NA where one of an intersection's columns is blank."""
    groups, *others = (as_text(rows[column]) for column in protected.columns)
    for values in others:
        groups = groups + GROUP_SEPARATOR + values
    return groups
