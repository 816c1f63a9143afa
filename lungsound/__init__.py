"""Respiratory-sound classification with snapshot ensembles (Nguyen & Pernkopf, 2020)."""
