"""Atomic writes, checksums, locks, signals and content keys."""
