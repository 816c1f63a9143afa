"""Which cycles are train, val and test, and what the sets share."""
