"""MLflow: the record of every run."""
