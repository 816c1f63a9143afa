"""MLflow: a view of the runs' folders. The only room that imports mlflow."""

import os

# MLflow waits for minutes where a server does not answer; here what failed is tried again after a
# look at what is there. It reads these when it is first imported, or used.
for name, value in {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # its own would create a run twice where an answer was lost
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}.items():
    os.environ.setdefault(name, value)
