"""One reader for each published database."""
