"""The compute party's process."""
