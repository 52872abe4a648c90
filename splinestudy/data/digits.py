"""The small digits data set that comes with scikit-learn: real images without a download, for tests."""

import numpy as np

from splinelib.errors import DataError
from splinestudy.data.arrays import Arrays, digest

MEAN, STD = (0.30493,), (0.37571,)
_SHA256 = "7f32a928ce086ac4a5eedc1b5531d4bace78eaf66c0436a24ee39e594589e716"
_TEST_PER_CLASS = 36  # a fifth of the 1,797 images
_SEED = 0


def digits_arrays() -> Arrays:
    """1,437 training and 360 test images, uint8 ``[N, 1, 32, 32]``, labels int64.

    Each of the 8x8 pixels becomes a block of 4x4, and its range of 0 to 16 is stretched to 0 to 255. The
    split is drawn once with a fixed seed and has 36 test images of each digit.

    Raises:
        DataError: scikit-learn is not installed, or its digits are not those known here.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError(
            "data set 'digits' comes with scikit-learn, which is not installed; install it"
        ) from error
    pixels, labels = load_digits(return_X_y=True)
    images = np.rint(pixels.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
    images = images.repeat(4, axis=2).repeat(4, axis=3)
    labels = labels.astype(np.int64)
    order = np.random.default_rng(_SEED).permutation(len(labels))
    is_test = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        is_test[order[labels[order] == label][:_TEST_PER_CLASS]] = True
    arrays = Arrays(images[~is_test], labels[~is_test], images[is_test], labels[is_test])
    if (found := digest(arrays)) != _SHA256:
        raise DataError(
            f"data set 'digits' has SHA-256 {found}, not {_SHA256}; install another scikit-learn or numpy"
        )
    return arrays
