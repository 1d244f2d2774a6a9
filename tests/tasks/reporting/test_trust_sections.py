"""Fairness and explanations on the page: each library's figures under its own meaning."""

from typing import Any

from tasks.contract import RunDirectory
from tasks.reporting.facts import RunFacts
from tasks.reporting.fairness_section import fairness_section
from tasks.reporting.glossary import TERMS, find_term
from tasks.reporting.trust_sections import explanations_section
from tasks.reporting.view import Section, Table

from .conftest import commit, picture

RATE = {"value": 0.9, "low": 0.8, "high": 1.0, "rows": 20}


def tables(section: Section) -> dict[str, Table]:
    return {table.title: table for table in section.tables}


def texts(table: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]


def fairness(run: RunDirectory, **frame: Any) -> Section:
    frame = {"outcome": "opacity", "n_boot": 100, "metrics": {}, "overall": {}, **frame}
    metrics = {
        "sex*age.equal_opportunity_difference": -0.1,
        "sex*age.fairlearn.equal_opportunity_difference": 0.1,
        "sex*age.fairlearn.equal_opportunity_difference.low": 0.02,
        "sex*age.fairlearn.equal_opportunity_difference.high": 0.2,
    }
    entry = {"attribute": "sex*age", "groups": [], "fairlearn": frame}
    commit(run, "fairness", {"fairness.json": {"attributes": [entry]}}, metrics=metrics)
    return fairness_section(RunFacts(run))


def test_each_library_has_a_table_of_its_own_with_its_own_meaning(run: RunDirectory) -> None:
    found = tables(fairness(run))
    assert list(found) == ["By sex*age", "By sex*age, Fairlearn: opacity predicted"]
    aif, fairlearn = (texts(table)[0] for table in found.values())
    assert aif[:2] == ["Equal opportunity difference", "-0.100"]
    assert fairlearn[:2] == ["Equal opportunity difference, between any two", "0.100"]
    assert "unprivileged less privileged" in aif[3] and "less the smallest" in fairlearn[3]


def test_a_rate_of_too_few_rows_is_said_to_be_missing(run: RunDirectory) -> None:
    rows = [
        {"group": "F & old", "count": 30, "accuracy": RATE, "true_positive_rate": RATE},
        {"group": "M & old", "count": 12, "accuracy": RATE},
    ]
    table = tables(fairness(run, by_group=rows))["Groups of sex*age, Fairlearn's MetricFrame"]
    assert table.folded and table.headings == ["Group", "Count", "Accuracy", "TPR"]
    assert texts(table) == [
        ["F & old", "30", "0.900", "0.900"],
        ["M & old", "12", "0.900", "too few rows"],
    ]
    assert table.rows[0][2].hint == "of 20\n0.800 to 1.000"


def test_the_many_groups_of_an_intersection_are_shown_on_demand(run: RunDirectory) -> None:
    for count, folded in ((24, False), (25, True)):
        groups = [
            {"group": f"{n} & F", "role": "", "rows": 12, "accuracy": RATE} for n in range(count)
        ]
        document = {"attributes": [{"attribute": "race*sex", "groups": groups}]}
        metrics = {"race*sex.accuracy_gap": 0.1}
        commit(run, "fairness", {"fairness.json": document}, metrics=metrics)
        table = tables(fairness_section(RunFacts(run)))["Groups of race*sex"]
        assert table.folded is folded and len(table.rows) == count


def test_damaged_figures_of_fairlearn_leave_the_others_standing(run: RunDirectory) -> None:
    assert "By sex*age" in tables(fairness(run, by_group=[7, {"group": None}]))
    assert "By sex*age" in tables(fairness(run, by_group="none", outcome=None))


def test_every_method_of_explanation_has_its_figures_and_its_picture(run: RunDirectory) -> None:
    image = {"image_id": "a.png", "expected": 0.4, "additivity_gap": 0.01}
    commit(
        run,
        "explain",
        {
            "explanations.json": {"images": [{"image_id": "a.png", "fidelity": 0.8}]},
            "explanations.png": picture(),
            "explanations_gradient_shap.json": {"images": [image]},
            "explanations_gradient_shap.png": picture(),
        },
        metrics={
            "images": 1,
            "focus": 2.0,
            "mass_inside_region": 0.5,
            "gradient_shap.focus": 3.0,
            "gradient_shap.additivity_gap": 0.01,
            "gradient_shap.focus_for.opacity": 3.0,
        },
    )
    section = explanations_section(RunFacts(run))
    found = tables(section)
    shap = texts(found["SHAP, expected gradients"])
    assert [row[:2] for row in shap] == [["Focus", "3.000"], ["Gap of the sum", "0.010"]]
    assert ["Focus", "2.000"] in [row[:2] for row in texts(found["LIME, superpixels"])]
    assert texts(found["All other figures"])[0][0] == "explain.gradient_shap.focus_for.opacity"
    headings = found["Image by image: SHAP, expected gradients"].headings
    assert "Gap of the sum" in headings and "Fidelity" not in headings
    assert [figure.name for figure in section.figures] == [
        "explanations.png",
        "explanations_gradient_shap.png",
    ]
    assert section.remarks == []


def test_parts_of_aligned_images_have_a_table_and_a_picture(run: RunDirectory) -> None:
    metrics = {"images": 3, "focus_for.a": 1.1}
    for part, focus in (("low", 2.0), ("rows", 0.5)):
        metrics |= {f"mass_inside_part.{part}": focus / 10, f"part_focus.{part}": focus}
        metrics |= {f"part_focus.{part}.low": focus - 0.1, f"part_focus.{part}.high": focus + 0.1}
    pictures = {"explanations.png": picture(), "explanations_parts.png": picture()}
    commit(run, "explain", pictures, metrics=metrics)
    section = explanations_section(RunFacts(run))
    table = tables(section)["Explanations, part by part"]
    assert [row[:3] for row in texts(table)] == [
        ["low", "0.200", "2.000"],
        ["rows", "0.050", "0.500"],
    ]
    assert "1.900 to 2.100" in table.rows[0][2].hint
    (rest,) = texts(tables(section)["All other figures"])
    assert rest[0] == "explain.focus_for.a"
    assert section.figures[1].title == "Where the model looks: part by part"
    # named parts are looked at: nobody is sent to judge by eye
    assert section.remarks == []


def test_a_night_of_lime_alone_or_of_shap_alone_shows_only_that(run: RunDirectory) -> None:
    commit(run, "explain", {}, metrics={"partition_shap.focus": 2.0, "images": 3})
    found = tables(explanations_section(RunFacts(run)))
    assert list(found) == ["SHAP, Owen values of halves"]
    rows = texts(found["SHAP, Owen values of halves"])
    assert [row[:2] for row in rows] == [["Focus", "2.000"], ["Images examined", "3"]]
    lime = {"focus": 2.0, "mass_inside_region": 0.5}
    commit(run, "explain", {"explanations.json": {"images": []}}, metrics=lime)
    assert list(tables(explanations_section(RunFacts(run)))) == [""]


def test_terms_are_found_behind_the_names_of_methods_and_libraries() -> None:
    assert find_term("gradient_shap.focus_for.No Finding") is TERMS["focus"]
    assert find_term("partition_shap.additivity_gap") is TERMS["additivity_gap"]
    name = "race*age.fairlearn.equalized_odds_ratio"
    assert find_term(name) is TERMS["fairlearn.equalized_odds_ratio"]
    assert find_term("race.fairlearn.unheard_of") is None
