"""Agreement beyond chance of model and truth, as an extra stage of its own.

Knows nothing of the package that runs it: two folders, one file of numbers, an exit code. Cohen's
kappa and its large-sample interval (Cohen 1960; Fleiss, Cohen and Everitt 1969).
"""

import json
import math
import os
import sys
from pathlib import Path

Z = 1.96
"""Of a 95 % interval."""


def kappa(matrix: list[list[int]]) -> dict[str, float]:
    """Return kappa, in -1 .. 1, of a confusion matrix (rows: truth), with its interval."""
    total = sum(map(sum, matrix))
    rows = [sum(row) / total for row in matrix]
    columns = [sum(column) / total for column in zip(*matrix, strict=True)]
    observed = sum(matrix[i][i] for i in range(len(matrix))) / total
    expected = sum(row * column for row, column in zip(rows, columns, strict=True))
    value = (observed - expected) / (1 - expected)
    error = math.sqrt(observed * (1 - observed) / total) / (1 - expected)
    return {"kappa": value, "kappa.low": value - Z * error, "kappa.high": value + Z * error}


def main() -> int:
    """Read the evaluation, write the metrics."""
    inputs = Path(os.environ["TRUSTED_RETRAINING_INPUTS"])
    outputs = Path(os.environ["TRUSTED_RETRAINING_OUTPUTS"])
    path = inputs / "evaluate" / "evaluation.json"
    try:
        matrix = json.loads(path.read_text(encoding="utf-8"))["confusion_matrix"]
        found = kappa(matrix)
    except (OSError, ValueError, KeyError, ZeroDivisionError) as error:
        # 65: the data are wrong, and another attempt would not help
        sys.stderr.write(f"{path}: no confusion matrix to judge: {error!r}\n")
        return 65
    (outputs / "metrics.json").write_text(json.dumps(found), encoding="utf-8")
    sys.stdout.write("kappa {kappa:.3f}\n".format(**found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
