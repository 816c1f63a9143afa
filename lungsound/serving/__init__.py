"""A finished run's ensemble behind `mlflow models serve`."""
