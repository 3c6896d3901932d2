"""The paper's experiments again: its figures, its table, its baselines, and what a valid calibration gives instead.

Everything here runs on public data in one process with numpy's seeded randomness, and protects nothing. What is ours
runs through the same plan, encoding and noise as a session does.
"""
