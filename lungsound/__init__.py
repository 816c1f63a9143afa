"""Respiratory-sound classification with snapshot ensembles (Nguyen & Pernkopf, 2020)."""

__version__ = "0.2.0"
