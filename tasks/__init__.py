"""The pod side: every stage of a night, run as ``python -m tasks STAGE``. Never imports Airflow."""

__version__ = "0.1.0"
