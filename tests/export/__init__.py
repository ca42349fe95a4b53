"""From MNIST to the models that ship: training, calibration, reports."""
