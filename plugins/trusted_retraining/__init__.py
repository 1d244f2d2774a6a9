"""The Airflow side: settings, DAG builder, operators, links."""
