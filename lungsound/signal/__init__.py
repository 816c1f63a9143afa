"""Waveforms to segments, log-mel pictures and chunks; the draws and the plan of augmentation."""
