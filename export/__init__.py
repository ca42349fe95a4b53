"""From MNIST to the shipped model: train a network, then convert it to ONNX.

Part of the repository, not of the installed package; needs ``pip install "fastdigit[export]"``.

    python -m export.train --recipe seed        train, evaluate, draw the figures
    python -m export.to_onnx MODEL.keras OUT.onnx
"""
