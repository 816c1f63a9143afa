"""The SYNTHETIC demo database."""
