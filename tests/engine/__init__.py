"""The engine through its Python API, and what of the package stands around it."""
