"""The model file: a writer, a reader that shares no code with it, and its checksum."""
