"""What the tests share: cases, networks, the float64 reference, builds of the core, fakes."""

from pathlib import Path

#: The root of the repository.
ROOT = Path(__file__).resolve().parents[2]
