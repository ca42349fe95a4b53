"""Targets that are given hostile input: :mod:`tests.fuzz.__main__` runs them, ``make fuzz``."""
