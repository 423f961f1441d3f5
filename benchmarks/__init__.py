"""Measures the program beside its alternatives: `.venv/bin/python -m benchmarks --help`."""
