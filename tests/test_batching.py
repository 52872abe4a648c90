"""Splits, subsets, and batches of images: normalised, augmented, in an order that a seed gives."""

from dataclasses import replace

import pytest
import torch
from oracles_data import crop_and_flip_one

from splinelib.errors import SettingError
from splinestudy.data import Dataset, Split, batch_count, batches, evaluation_batches, normalize, subset
from splinestudy.data.batching import crop_and_flip


@pytest.fixture
def split():
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (53, 3, 9, 7), generator=generator, dtype=torch.uint8)
    return Split(images, torch.arange(53) % 4)


@pytest.fixture
def dataset(split):
    return Dataset("made-up", split, split, 4, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), True, tuple("abcd"))


def test_split_checks_itself(split):
    with pytest.raises(SettingError, match="float32"):
        Split(split.images.float(), split.labels)
    with pytest.raises(SettingError, match="53 images"):
        Split(split.images, split.labels[:-1])
    with pytest.raises(SettingError, match="int32"):
        Split(split.images, split.labels.int())


@pytest.mark.parametrize("count", [1, 4, 6, 40, 53])
def test_subset_is_balanced_nested_and_seeded(split, count):
    chosen = subset(split, count, seed=3)
    assert len(chosen) == count
    numbers = torch.bincount(chosen.labels, minlength=4)
    assert numbers.max() - numbers.min() <= 1
    keys = {tuple(image.flatten().tolist()) for image in chosen.images}
    assert len(keys) == count
    originals = [(split.images == image).flatten(1).all(1).nonzero().item() for image in chosen.images]
    assert originals == sorted(originals)
    assert torch.equal(split.labels[originals], chosen.labels)
    larger = subset(split, min(53, count + 5), seed=3)
    assert keys <= {tuple(image.flatten().tolist()) for image in larger.images}
    assert torch.equal(subset(split, count, seed=3).images, chosen.images)
    if count < 53:
        assert not torch.equal(subset(split, count, seed=4).images, chosen.images)


def test_subset_of_unbalanced_classes_takes_what_there_is():
    labels = torch.tensor([0] * 10 + [1] * 2)
    chosen = subset(Split(torch.zeros(12, 1, 2, 2, dtype=torch.uint8), labels), 8, seed=0)
    assert torch.bincount(chosen.labels).tolist() == [6, 2]


def test_subset_without_a_count_is_the_split(split):
    assert subset(split, None, seed=0) is split
    for count in (0, 54):
        with pytest.raises(SettingError, match=f"count is {count}[;:] .*(1 to 53|in .1, inf.)"):
            subset(split, count, seed=0)


def test_normalize(split, dataset):
    mean, std = torch.tensor(dataset.mean).view(3, 1, 1), torch.tensor(dataset.std).view(3, 1, 1)
    before = split.images.clone()
    # float32 rounding of values up to about 4
    torch.testing.assert_close(
        normalize(split.images, dataset), (split.images / 255 - mean) / std, atol=2e-6, rtol=0
    )
    assert torch.equal(split.images, before)
    with pytest.raises(SettingError, match="made-up"):
        normalize(split.images[:, :1], dataset)
    with pytest.raises(SettingError, match="float32"):
        normalize(split.images.float(), dataset)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("flip", [False, True])
def test_augmentation_equals_the_image_by_image_version(split, dataset, flip):
    dataset = replace(dataset, flip=flip)
    images, labels = map(
        torch.cat, zip(*batches(split, dataset, 16, generator=seeded(5), augment=True), strict=True)
    )
    generator = seeded(5)
    order = torch.randperm(53, generator=generator)
    offsets = torch.randint(9, (53, 2), generator=generator)
    flips = torch.randint(2, (53,), generator=generator).bool() if flip else torch.zeros(53, dtype=torch.bool)
    expected = torch.stack(
        [
            crop_and_flip_one(split.images[index], int(top), int(left), bool(mirror))
            for index, (top, left), mirror in zip(order, offsets, flips, strict=True)
        ]
    )
    assert torch.equal(images, normalize(expected, dataset))
    assert torch.equal(labels, split.labels[order])


def test_extreme_crops():
    image = torch.arange(1, 13, dtype=torch.uint8).view(1, 1, 3, 4).expand(4, -1, -1, -1)
    offsets = torch.tensor([[4, 4], [4, 4], [0, 0], [8, 7]])
    plain, mirrored, high, low = crop_and_flip(image, offsets, torch.tensor([False, True, False, False]))[
        :, 0
    ]
    assert torch.equal(plain, image[0, 0])
    assert mirrored.tolist() == [[4, 3, 2, 1], [8, 7, 6, 5], [12, 11, 10, 9]]
    assert high.sum() == low.sum() == 0
    bigger = torch.ones(1, 1, 6, 6, dtype=torch.uint8)
    corner = crop_and_flip(bigger, torch.tensor([[0, 8]]), torch.tensor([False]))[0, 0]
    assert corner.nonzero().tolist() == [[4, 0], [4, 1], [5, 0], [5, 1]]


@pytest.mark.parametrize("augment", [False, True])
def test_skipping_equals_having_consumed(split, dataset, augment):
    generators = [seeded(), seeded()]
    whole = list(batches(split, dataset, 10, generator=generators[0], augment=augment))
    rest = list(batches(split, dataset, 10, generator=generators[1], augment=augment, skip=2))
    assert len(rest) == len(whole) - 2 == 4
    for (a, a_labels), (b, b_labels) in zip(whole[2:], rest, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a_labels, b_labels)
    assert torch.equal(generators[0].get_state(), generators[1].get_state())
    assert list(batches(split, dataset, 10, generator=seeded(), augment=augment, skip=6)) == []


def test_the_epoch_is_drawn_at_the_call(split, dataset):
    generator = seeded()
    before, outside = generator.get_state(), torch.get_rng_state()
    epoch = batches(split, dataset, 10, generator=generator, augment=True)
    after = generator.get_state()
    assert not torch.equal(before, after)
    next(epoch)
    assert torch.equal(generator.get_state(), after)
    assert torch.equal(torch.get_rng_state(), outside)
    other = next(batches(split, dataset, 10, generator=generator, augment=True))
    first = next(batches(split, dataset, 10, generator=seeded(), augment=True))
    assert not torch.equal(other[0], first[0])


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [
        (53, 20, [20, 20, 13]),
        (41, 20, [20, 21]),
        (40, 20, [20, 20]),
        (3, 20, [3]),
        (1, 20, [1]),
        (3, 2, [3]),
        (3, 1, [1] * 3),
    ],
)
def test_batch_sizes(split, dataset, count, batch_size, sizes):
    part = Split(split.images[:count], split.labels[:count])
    shuffled = list(batches(part, dataset, batch_size, generator=seeded(), augment=False))
    assert [len(labels) for _, labels in shuffled] == sizes
    assert batch_count(count, batch_size) == len(sizes)
    seen = torch.cat([images for images, _ in shuffled]).flatten(1)
    assert sorted(seen.tolist()) == sorted(normalize(part.images, dataset).flatten(1).tolist())


def test_evaluation_keeps_order(split, dataset):
    images, labels = map(torch.cat, zip(*evaluation_batches(split, dataset, 10), strict=True))
    assert torch.equal(images, normalize(split.images, dataset))
    assert torch.equal(labels, split.labels)


def test_bad_batch_settings(split, dataset):
    with pytest.raises(SettingError, match="batch_size is 0"):
        batches(split, dataset, 0, generator=seeded(), augment=False)
    with pytest.raises(SettingError, match="batch_size is -1"):
        evaluation_batches(split, dataset, -1)
    with pytest.raises(SettingError, match="skip is -1"):
        batches(split, dataset, 4, generator=seeded(), augment=False, skip=-1)
