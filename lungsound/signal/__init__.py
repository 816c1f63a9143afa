"""Waveforms to segments, log-mels and chunks; augmentation and its random numbers."""
