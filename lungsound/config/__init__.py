"""The configuration: its schema, its checks, and command lines."""
