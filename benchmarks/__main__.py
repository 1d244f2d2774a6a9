"""Run the benchmarks, print a table, write results.json: ``python -m benchmarks [NAME ...]``."""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
RESULTS = FOLDER / "results.json"
BENCHMARKS = (
    *("parse", "overhead", "no_new_data", "hashing", "price_of_trust", "sources"),
    *("near_duplicates", "training", "lime", "pgd", "pod_overhead", "s3", "serving"),
)


def main(chosen: list[str]) -> int:
    """Run some or all of them; exit code 1 when one fails or misses its target."""
    unknown = sorted(set(chosen) - set(BENCHMARKS))
    if unknown:
        print(f"{', '.join(unknown)}: no such benchmark; there is {', '.join(BENCHMARKS)}")
        return 64
    document = json.loads(RESULTS.read_text()) if RESULTS.exists() and chosen else {}
    results: dict[str, Any] = document.get("benchmarks", {})
    code = 0
    for name in chosen or BENCHMARKS:
        print(f"{name}: running", flush=True)
        started = time.perf_counter()
        rows = run(name)
        seconds = time.perf_counter() - started
        outcome = "failed" if rows is None else "done" if rows else "skipped"
        print(f"{name}: {outcome} after {seconds:.0f} s", flush=True)
        results[name] = {"rows": rows or [], "seconds": round(seconds, 1), "failed": rows is None}
        code |= rows is None or not all(row["passed"] for row in rows)
    RESULTS.write_text(json.dumps({"machine": machine(), "benchmarks": results}, indent=1) + "\n")
    print(f"\n{table([row for name in results for row in results[name]['rows']])}\n\n{RESULTS}")
    return int(code)


def run(name: str) -> list[dict[str, Any]] | None:
    """Return a benchmark's rows: None when it failed, after its last lines; none when it cannot run
    here, after its reason."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.json"
        process = subprocess.run(
            [sys.executable, str(FOLDER / f"{name}.py"), "--out", str(out)],
            cwd=FOLDER.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if not out.exists():
            print(process.stdout[-2000:])
            return None
        rows = list(json.loads(out.read_text()))
        if not rows:
            print(process.stdout.partition("\n")[0])
        return rows


def machine() -> dict[str, Any]:
    """Return what a number is worth nothing without."""
    return {
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "tensorflow": version("tensorflow"),
        "airflow": version("apache-airflow"),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as text."""
    lines = [f"{'':<54} {'ours':>10} {'plain':>10} {'ratio':>7}  {'target':<10}"]
    for row in rows:
        mark = "" if row["target"] is None else ("met" if row["passed"] else "MISSED")
        lines.append(
            f"{row['name'][:54]:<54} {row['ours']:>10.4g} {row['plain']:>10.4g} "
            f"{row['ratio']:>7.2f}  {row['target'] or '-'!s:<10} {mark}  ({row['unit']})"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
