"""One DAG per file in ``pipelines/``.

A file that is wrong does not take the others with it: its error is raised by pipeline_errors.py, so
that the Airflow UI shows it as an import error.
"""

from trusted_retraining.dag_builder import build_dag
from trusted_retraining.pipelines import usable_pipelines
from trusted_retraining.settings import Settings

settings = Settings.read()
for pipeline in usable_pipelines(settings)[0]:
    globals()[pipeline.name] = build_dag(pipeline, settings)
