"""One run: its components, its story, its names, and what is done with a finished one."""
