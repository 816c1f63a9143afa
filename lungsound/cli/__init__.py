"""The `lungsound` command, and how all commands end."""
