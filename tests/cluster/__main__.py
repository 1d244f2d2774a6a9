"""Says in one line why the tests on a cluster cannot run; exit code 0 when they can."""

import sys

from tests.cluster.readiness import problem

found = problem()
if found:
    sys.stderr.write(f"e2e: {found}\n")
sys.exit(69 if found else 0)
