"""The schema of the configuration, and Hydra's command lines. Checks: limits, runs/validation."""
