import pytest
import torch

from splinelib.early_bird.canvas import noise_canvas, two_image_canvas
from splinelib.errors import SettingError
from splinestudy.data import Dataset, Split, normalize
from splinestudy.runs.settling import image_canvas


@pytest.fixture
def data(generator):
    """60 test images of three classes, 20 of each; the value of every pixel is the image's number."""
    images = torch.arange(60, dtype=torch.uint8).view(60, 1, 1, 1).expand(60, 2, 3, 3).contiguous()
    split = Split(images, torch.arange(60) % 3)
    return Dataset("made-up", split, split, 3, (0.5, 0.4), (0.2, 0.1), False, ("a", "b", "c"))


def numbers(canvas, data):
    """Which test images a canvas holds."""
    images = normalize(data.test.images, data)
    return [(images == point).flatten(1).all(1).nonzero().item() for point in canvas]


def test_an_image_canvas_holds_normalised_test_images_of_all_classes(data):
    canvas = image_canvas(data, 30, seed=0)
    assert canvas.shape == (30, 2, 3, 3)
    assert canvas.dtype == torch.float32
    chosen = numbers(canvas, data)
    assert len(set(chosen)) == 30
    assert torch.bincount(data.test.labels[chosen]).tolist() == [10, 10, 10]


def test_an_image_canvas_follows_its_seed_alone(data):
    state = torch.get_rng_state()
    first, again, other = (image_canvas(data, 9, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again)
    assert set(numbers(other, data)) != set(numbers(first, data))
    assert set(numbers(first, data)) < set(numbers(image_canvas(data, 30, 0), data))


@pytest.mark.parametrize("count", [0, 61])
def test_an_image_canvas_of_impossible_size_is_named(count, data):
    with pytest.raises(SettingError, match=f"count is {count}"):
        image_canvas(data, count, seed=0)


def test_noise_fills_the_range_of_every_channel(generator):
    scale, shift = torch.tensor([1.0, 10.0]).view(2, 1, 1), torch.tensor([0.0, 5.0]).view(2, 1, 1)
    images = torch.randn(5, 2, 3, 4, generator=generator) * scale + shift
    low, high = images.amin((0, 2, 3)), images.amax((0, 2, 3))
    noise = noise_canvas(images, 2000, seed=3)
    assert noise.shape == (2000, 2, 3, 4)
    share = (noise - low.view(2, 1, 1)) / (high - low).view(2, 1, 1)
    assert share.min() >= 0
    assert share.max() <= 1
    # Uniform: each of ten equal bins of each channel holds a tenth of 24,000 values, within four standard errors.
    for channel in share.transpose(0, 1).flatten(1):
        counts = torch.histc(channel, 10, 0, 1)
        assert (counts - 2400).abs().max() < 4 * (24_000 * 0.1 * 0.9) ** 0.5


def test_noise_follows_seed_and_dtype(generator):
    images = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    state = torch.get_rng_state()
    first, again, other = (noise_canvas(images, 6, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.dtype == torch.float64
    torch.testing.assert_close(noise_canvas(images.float(), 6, 0), first.float())


@pytest.mark.parametrize(
    ("images", "count", "named"),
    [
        (torch.zeros(3), 1, r"shape \(3,\)"),
        (torch.zeros(0, 3), 1, r"shape \(0, 3\)"),
        (torch.zeros(2, 3, dtype=torch.uint8), 1, "torch.uint8"),
        (torch.zeros(2, 3), 0, "count is 0"),
        (torch.tensor([[0.0, torch.nan]]), 1, "NaN or infinite"),
        (torch.tensor([[0.0, torch.inf]]), 1, "NaN or infinite"),
    ],
)
def test_noise_that_cannot_be_drawn_is_named(images, count, named):
    with pytest.raises(SettingError, match=named):
        noise_canvas(images, count, seed=0)


def test_canvas_by_hand():
    first, second = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 10.0]])
    canvas = two_image_canvas(first, second, side=3)
    assert canvas.shape == (9, 1, 2)
    expected = [[a, 10 * b] for a in (0, 0.5, 1) for b in (0, 0.5, 1)]
    assert canvas[:, 0].tolist() == expected
    assert two_image_canvas(first.double(), second.double()).shape == (1024, 1, 2)
    assert two_image_canvas(first.double(), second.double(), 2).dtype == torch.float64


@pytest.mark.parametrize(
    ("first", "second", "side", "named"),
    [
        (torch.zeros(1, 2), torch.zeros(2, 1), 3, r"\(1, 2\) and \(2, 1\)"),
        (torch.zeros(2), torch.zeros(2), 1, "side is 1"),
        (torch.zeros(2, dtype=torch.uint8), torch.zeros(2, dtype=torch.uint8), 3, "torch.uint8: normalise"),
    ],
)
def test_canvas_images_that_do_not_fit_are_named(first, second, side, named):
    with pytest.raises(SettingError, match=named):
        two_image_canvas(first, second, side)
