"""Recordings and annotations -> the table of cycles, their splits, their waveforms on disk."""
