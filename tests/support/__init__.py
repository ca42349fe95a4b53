"""What the tests share: cases, networks, the float64 reference, builds of the core, fakes."""

from pathlib import Path

#: The root of the repository.
ROOT = Path(__file__).resolve().parents[2]

#: The shipped models as tf2onnx exported them, `digits` also compacted: what they were compiled
#: from is what they are held against.
EXPORTED = Path(__file__).with_name("exported")
