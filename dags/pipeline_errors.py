"""Holds no DAG: raises what is wrong in ``pipelines/``, for Airflow to show as an import error.

Airflow takes every DAG of a file that has an import error out of service. So the error is raised
here, and the DAGs of the pipelines that are right stay in service in retraining.py.
"""

from tasks.spec import SpecError
from trusted_retraining.pipelines import usable_pipelines
from trusted_retraining.settings import Settings

errors = usable_pipelines(Settings.read())[1]
if errors:
    raise SpecError("\n".join(errors))
