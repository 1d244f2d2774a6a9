"""One DAG per file in ``pipelines/``.

A file that is wrong does not take the others with it: its error is raised by pipeline_errors.py, so
that the Airflow UI shows it as an import error.
"""

from trusted_retraining.dag_builder import build_dags
from trusted_retraining.settings import Settings

globals().update(build_dags(Settings.read())[0])
