"""The configuration's schema, and Hydra's command lines. Its checks: runs/validation.py."""
