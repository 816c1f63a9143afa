"""The datamodule, the CNN, its loss and schedule, snapshots and the stored trajectory."""
