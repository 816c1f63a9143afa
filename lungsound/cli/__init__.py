"""The commands beside train.py and sweep.py."""
