"""Copy runs and studies from their folders to MLflow. Only this package imports mlflow."""

import os

# MLflow reads these when it is imported or first used. By default it retries for minutes without a
# message; here a request fails soon, and the next sync sends only what MLflow still lacks.
for name, value in {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # after a lost response a retry creates a second run
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",  # without git, as in a container: no page of advice, three times
}.items():
    os.environ.setdefault(name, value)
