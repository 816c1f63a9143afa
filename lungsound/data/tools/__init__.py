"""Commands on a database: download, audit, plot."""
