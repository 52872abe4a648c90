"""What the data sets are: their catalogue, and the images themselves."""

import pytest
import torch

from splinelib.errors import DataError, SettingError
from splinestudy.data import DATASETS, digits, load_dataset

CACHED = {
    "cifar10": ([5000] * 10, [6, 9, 9, 4, 1, 1, 2, 7, 8, 3], [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]),
    "mnist": (
        [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
        [5, 0, 4, 1, 9, 2, 1, 3, 1, 4],
        [7, 2, 1, 0, 4, 1, 4, 9, 5, 9],
    ),
    "fashion_mnist": ([6000] * 10, [9, 0, 0, 3, 0, 2, 7, 2, 5, 5], [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]),
}


@pytest.mark.realdata
@pytest.mark.parametrize("name", sorted(CACHED))
def test_real_data(name):
    dataset, (counts, train, test) = load_dataset(name), CACHED[name]
    assert torch.bincount(dataset.train.labels).tolist() == counts
    assert dataset.train.labels[:10].tolist() == train
    assert dataset.test.labels[:10].tolist() == test
    histogram = torch.stack(
        [torch.bincount(c.flatten(), minlength=256) for c in dataset.train.images.unbind(1)]
    )
    values = torch.arange(256, dtype=torch.float64) / 255
    weights = histogram.double() / histogram.sum(1, keepdim=True)
    mean = (weights * values).sum(1)
    std = ((weights * values**2).sum(1) - mean**2).sqrt()
    # The catalogue rounds to five digits.
    torch.testing.assert_close(mean, torch.tensor(dataset.mean, dtype=torch.float64), atol=6e-6, rtol=0)
    torch.testing.assert_close(std, torch.tensor(dataset.std, dtype=torch.float64), atol=6e-6, rtol=0)


def test_digits_are_enlarged_and_split_by_class():
    from sklearn.datasets import load_digits

    dataset = load_dataset("digits")
    assert (len(dataset.train), len(dataset.test), dataset.flip) == (1437, 360, False)
    assert torch.bincount(dataset.test.labels).tolist() == [36] * 10
    images = torch.cat([dataset.train.images, dataset.test.images])
    assert images.shape == (1797, 1, 32, 32)
    small = images[:, 0, ::4, ::4]
    assert torch.equal(small.repeat_interleave(4, 1).repeat_interleave(4, 2), images[:, 0])
    pixels = torch.from_numpy(load_digits().data)
    ours = sorted(map(tuple, (small.flatten(1) * (16 / 255)).round().int().tolist()))
    assert ours == sorted(map(tuple, pixels.int().tolist()))
    scaled = dataset.train.images.double() / 255
    torch.testing.assert_close(scaled.mean().item(), dataset.mean[0], atol=6e-6, rtol=0)
    torch.testing.assert_close(scaled.std(correction=0).item(), dataset.std[0], atol=6e-6, rtol=0)


def test_other_digits_are_refused(monkeypatch):
    monkeypatch.setattr(digits, "_SEED", 1)
    with pytest.raises(DataError, match="has SHA-256"):
        load_dataset("digits")


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(SettingError) as caught:
        load_dataset("cifar11")
    for name in ("cifar11", *DATASETS):
        assert name in str(caught.value)
