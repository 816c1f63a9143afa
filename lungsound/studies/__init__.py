"""A study: the jobs of a sweep, their plan, tables and figures; the store of trajectories."""
