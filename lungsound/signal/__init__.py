"""Waveforms to segments, log-mels and chunks; the draws and the plan of augmentation."""
