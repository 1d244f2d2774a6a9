"""Holds no DAG: raises what is wrong in ``pipelines/``, for Airflow to show as an import error.

Airflow takes every DAG of a file that has an import error out of service. So the error is raised
here, and the DAGs of the pipelines that are right stay in service in retraining.py.
"""

from tasks.spec import SpecError
from trusted_retraining.dag_builder import build_dags
from trusted_retraining.settings import Settings

errors = build_dags(Settings.read())[1]
if errors:
    raise SpecError("\n".join(errors))
