"""Batches, the training step, loss and learning rate, snapshots and the stored trajectory."""
