"""The network as a scikit-learn classifier: in pipelines, cross-validation, and calibration.

    python sklearn_estimator.py

It is trained already, so `fit` learns nothing: it opens the model and checks the labels.
"""

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

import fastdigit


class FastDigitClassifier(ClassifierMixin, BaseEstimator):
    """Digits from rows of 784 pixels, white on black.

    Parameters
    ----------
    model
        Path of a .fdm file; None: the model that ships with fastdigit.
    threads
        See `fastdigit.load`.
    scale
        What stands for white in the data: 255, or 1.
    """

    def __init__(self, model=None, threads=1, scale=255):
        self.model = model
        self.threads = threads
        self.scale = scale

    def fit(self, X, y=None):
        validate_data(self, X)
        self.model_ = fastdigit.load(self.model, threads=self.threads)
        features = int(np.prod(self.model_.input_shape))
        if self.n_features_in_ != features:
            raise ValueError(f"X has {self.n_features_in_} features, the network takes {features}")
        self.classes_ = np.arange(len(self.model_.classes))
        if y is not None and not np.isin(y, self.classes_).all():
            raise ValueError(f"y holds labels that are not in 0..{len(self.classes_) - 1}")
        return self

    def predict_proba(self, X):
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=(np.float64, np.float32, np.uint8))
        if not (X.dtype == np.uint8 and self.scale == 255):
            white = self.model_.info()["range"][1]  # 1, or 255
            X = np.asarray(X, np.float32) / np.float32(self.scale) * np.float32(white)
        found = self.model_.predict_proba(X)
        # Of one sigmoid output, which is that of the second class.
        return np.hstack([1 - found, found]) if found.shape[1] == 1 else found

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


if __name__ == "__main__":
    from sklearn.metrics import classification_report

    from fastdigit.datasets import load_mnist_test

    images, labels = load_mnist_test()
    rows = images.reshape(len(images), -1)
    classifier = FastDigitClassifier().fit(rows[:10], labels[:10])
    print(classification_report(labels, classifier.predict(rows), digits=4))
