"""Train one model across organisations that may not pool their records, with differential privacy."""

__version__ = "0.1.0"
