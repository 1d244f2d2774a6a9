"""One machine: the Airflow home, one night from the command line, and everything at once."""
