"""``python -m tasks STAGE``: every stage of a night, runnable alone."""

import sys

from tasks.cli import main

sys.exit(main())
