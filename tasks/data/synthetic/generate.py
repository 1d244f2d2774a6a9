"""Writes a generated data set, block by block, on all cores."""

import csv
import json
import logging
import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tasks.data.synthetic.film import Anatomy, Film, draw_film
from tasks.data.synthetic.population import (
    BLOCK,
    NO_FINDING,
    Row,
    Variant,
    draw_block,
    draw_opacities,
    stream,
)

log = logging.getLogger("tasks")

COLUMNS = (
    "patientid offset sex age finding RT_PCR_positive survival intubated intubation_present "
    "went_icu in_icu needed_supplemental_O2 extubated temperature pO2_saturation leukocyte_count "
    "neutrophil_count lymphocyte_count view modality date location folder filename doi url license "
    "clinical_notes other_notes"
).split()
"""Columns of the public chest film collection's table."""

TRUTH_COLUMNS = (
    "filename patientid true_sex true_finding ill flaw original marker lung_share opacity_share "
    "marker_box"
).split()


def generate(
    out: Path, *, rows: int, variant: Variant = "plain", size: int = 96, seed: int = 7
) -> None:
    """Write ``metadata.csv``, ``images/``, ``masks/``, ``truth.csv`` and ``truth.json``.

    Parameters
    ----------
    out : Path
        Folder; made if absent. Files of the same names are replaced.
    rows : int
        Rows of the table. Row ``i`` is the same whatever their number.
    variant : {'plain', 'biased'}
        ``biased`` plants a group for whom the finding is faint and elsewhere, and a marker that
        goes with the label.
    size : int
        Side of the films, in pixels.
    seed : int
        Same seed, same bytes.
    """
    for name in ("images", "masks"):
        (out / name).mkdir(parents=True, exist_ok=True)
    started, said, done = time.perf_counter(), 0.0, 0
    with (
        (out / "metadata.csv").open("w", newline="", encoding="utf-8") as table_file,
        (out / "truth.csv").open("w", newline="", encoding="utf-8") as truth_file,
    ):
        table = csv.DictWriter(table_file, COLUMNS, restval="", lineterminator="\n")
        truth = csv.DictWriter(truth_file, TRUTH_COLUMNS, restval="", lineterminator="\n")
        table.writeheader()
        truth.writeheader()
        for table_rows, truth_rows in _blocks(out, rows, variant, size, seed):
            table.writerows(table_rows)
            truth.writerows(truth_rows)
            done += len(table_rows)
            if time.perf_counter() - said > 5:
                said = time.perf_counter()
                log.info("generate: %d of %d films", done, rows)
    (out / "truth.json").write_text(json.dumps(_planted(rows, variant, size, seed), indent=1))
    log.info("generate: %d films in %.1f s", rows, time.perf_counter() - started)


def _planted(rows: int, variant: Variant, size: int, seed: int) -> dict[str, Any]:
    biased = variant == "biased"
    return {
        "rows": rows,
        "variant": variant,
        "size": size,
        "seed": seed,
        "label": f"a row is ill when true_finding is not {NO_FINDING!r}",
        "masks": "masks/{stem}.png: 255 within the lung fields",
        "disadvantaged_group": {"attribute": "sex", "value": "F"} if biased else None,
        "leaking_marker": {"text": "PORT", "corner": "upper left"} if biased else None,
    }


def _blocks(
    out: Path, rows: int, variant: Variant, size: int, seed: int
) -> Iterator[tuple[list[dict[str, Any]], list[dict[str, Any]]]]:
    numbers = range(-(-rows // BLOCK))
    jobs = ((out, number, rows, variant, size, seed) for number in numbers)
    workers = min(len(os.sched_getaffinity(0)), len(numbers))
    if workers < 2 or rows * size * size < 500_000:
        yield from map(_write_block, jobs)
        return
    # a fresh interpreter a worker: forking a process that runs TensorFlow's threads can hang
    with ProcessPoolExecutor(workers, multiprocessing.get_context("forkserver")) as pool:
        pending = [pool.submit(_write_block, job) for job in islice(jobs, 4 * workers)]
        while pending:
            yield pending.pop(0).result()
            pending += [pool.submit(_write_block, job) for job in islice(jobs, 1)]


def _write_block(
    job: tuple[Path, int, int, Variant, int, int],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    out, number, rows, variant, size, seed = job
    block = draw_block(number, seed=seed, variant=variant)
    table, truth = [], []
    for row in block:
        if row.index < rows:
            # the patient of the original is drawn, whoever a duplicate is filed under
            drawn = block[row.original % BLOCK]
            table.append(_table_row(row))
            truth.append(_write_film(out, row, drawn, variant=variant, size=size, seed=seed))
    return table, truth


def _write_film(
    out: Path, row: Row, drawn: Row, *, variant: Variant, size: int, seed: int
) -> dict[str, Any]:
    truth: dict[str, Any] = {
        "filename": row.filename,
        "patientid": row.patient,
        "true_sex": row.true_sex,
        "true_finding": row.true_finding,
        "ill": int(row.true_finding != NO_FINDING),
        "flaw": row.flaw,
        "marker": row.marker,
    }
    if row.flaw == "volume":
        return truth
    film = _film(drawn, variant=variant, size=size, seed=seed)
    (out / "images" / row.filename).write_bytes(_encode(film, row, seed))
    mask = Image.fromarray(film.lungs.astype(np.uint8) * 255)
    mask.save(out / "masks" / f"{row.stem}.png", compress_level=3)
    truth["original"] = row.original if row.flaw == "duplicate" else ""
    truth["lung_share"] = f"{film.lungs.mean():.4f}"
    truth["opacity_share"] = f"{film.opacities.mean():.4f}"
    truth["marker_box"] = " ".join(map(str, film.marker)) if film.marker else ""
    return truth


def _film(row: Row, *, variant: Variant, size: int, seed: int) -> Film:
    anatomy = Anatomy.draw(stream(seed, 1, row.patient), row.true_sex)
    rng = stream(seed, 2, row.index)
    opacities = draw_opacities(rng, row, variant)
    return draw_film(rng, size=size, anatomy=anatomy, opacities=opacities, marker=row.marker)


def _encode(film: Film, row: Row, seed: int) -> bytes:
    image = Image.fromarray(film.pixels)
    if row.mode == "I;16":
        image = Image.fromarray(film.pixels.astype(np.uint16) * 257)
    elif row.mode != "L":
        image = image.convert(row.mode)
    buffer = BytesIO()
    if row.suffix == ".jpg":
        image.save(buffer, "JPEG", quality=92)
    else:
        image.save(buffer, "PNG", compress_level=3)
    content = buffer.getvalue()
    if row.flaw == "truncated":
        return content[: int(len(content) * 0.6)]
    if row.flaw == "undecodable":
        page = b"<!DOCTYPE html><html><body><h1>404 Not Found</h1></body></html>\n"
        return (page, b"", stream(seed, 3, row.index).bytes(512))[row.index % 3]
    return content


def _table_row(row: Row) -> dict[str, Any]:
    covid = "COVID" in row.true_finding and row.finding != "todo"
    return {
        "patientid": row.patient,
        "offset": row.offset,
        "sex": row.sex,
        "age": row.age,
        "finding": row.finding,
        "RT_PCR_positive": "Y" if covid else "",
        "view": row.view,
        "modality": "CT" if row.flaw == "volume" else "X-ray",
        "location": "generated",
        "folder": "volumes" if row.flaw == "volume" else "images",
        "filename": row.filename,
        "license": "CC0",
        "other_notes": "a drawing, not a patient",
    }
