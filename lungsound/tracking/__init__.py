"""MLflow: a view of the runs' folders. The only room that imports mlflow."""
