"""A sweep: its plan, its jobs, its tables and figures, and the store."""
