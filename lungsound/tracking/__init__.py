"""MLflow: a view of the folders of runs and studies. The only package that imports mlflow."""

import os

# MLflow reads these at its import or first use. By default it retries for minutes, in silence;
# here a request fails soon, and the next sync looks at what is there before it sends the rest.
for name, value in {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # after a lost response a retry creates a second run
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}.items():
    os.environ.setdefault(name, value)
