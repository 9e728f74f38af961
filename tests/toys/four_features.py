"""Features that a user brings along: the mean of each quarter of an image, and two classes."""

import numpy as np

SHAPE, IDENTITY = (8, 8, 1), "quarters"


def features(images):
    return images.reshape(len(images), 2, 4, 2, 4).mean((2, 4)).reshape(len(images), 4) / 255


def probabilities(images):
    dark = features(images).mean(1, keepdims=True)
    return np.concatenate([dark, 1 - dark], 1)
