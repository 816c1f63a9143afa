"""Files that are whole or not there, checksums, locks, signals and content keys."""
