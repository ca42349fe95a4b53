"""Back ends: from the IR to a model file and back, to C source, to ONNX."""
