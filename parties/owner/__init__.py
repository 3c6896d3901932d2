"""The data owner's process."""
