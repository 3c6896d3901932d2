"""What runs: one process per role, each started with its own config file."""
