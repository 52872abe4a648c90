"""Folders of image files as data sets."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from splinelib.errors import DataError, LimitError, SettingError
from splinestudy.data import batches, imagefolder, load_dataset, normalize, subset


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two classes; images of one colour each, 20x30 or 30x20 pixels."""
    monkeypatch.setenv("SPLINELIB_DATA", str(tmp_path / "cache"))
    for split in ("train", "val"):
        for label, name in enumerate(("ant", "bee")):
            (tmp_path / "root" / split / name).mkdir(parents=True)
            for k in range(2):
                colour = (100 * label, 50 * k, 200 if split == "val" else 0)
                picture = Image.new("RGB", (20, 30) if k else (30, 20), colour)
                picture.save(tmp_path / "root" / split / name / f"{k}.png")
    (tmp_path / "root" / "train" / "ant" / "notes.txt").write_text("no image")
    return tmp_path / "root"


def test_image_folder(folder):
    dataset = load_dataset("imagefolder", f"{folder}@16")
    assert dataset.class_names == ("ant", "bee")
    assert dataset.train.labels.tolist() == [0, 0, 1, 1]
    assert dataset.train.images.shape == dataset.test.images.shape == (4, 3, 16, 16)
    flat = dataset.test.images[:].flatten(2)
    assert torch.equal(flat.amin(2), flat.amax(2))
    assert flat[:, :, 0].tolist() == [[0, 0, 200], [0, 50, 200], [100, 0, 200], [100, 50, 200]]
    assert dataset.flip


def test_image_folder_cuts_out_the_centre(folder):
    image = np.zeros((16, 40, 3), dtype=np.uint8)
    image[:, :, 0] = np.arange(40) * 6
    file = folder / "train" / "ant" / "0.png"
    Image.fromarray(image).save(file)
    size = 14  # of which 256/224 is 16, the height of the image: nothing is scaled
    decoded = imagefolder.ImageFiles([file], size)[:]
    assert np.array_equal(decoded[0], image[1:15, 13:27].transpose(2, 0, 1))


def test_image_files_are_read_when_they_are_asked_for(folder):
    dataset = load_dataset("imagefolder", f"{folder}@16")
    Image.new("RGB", (20, 20), (9, 9, 9)).save(folder / "train" / "bee" / "1.png")
    images = dataset.train.images
    assert images[torch.tensor([3, 0])][0].unique().tolist() == [9]
    assert torch.equal(images[[1, 2]], images[:][1:3])
    part = subset(dataset.train, 2, seed=0)
    assert (len(part), part.labels.tolist(), type(part.images)) == (2, [0, 1], imagefolder.ImageFiles)
    with pytest.raises(LimitError, match="an image of 99999999 pixels takes"):
        load_dataset("imagefolder", f"{folder}@99999999")


def test_imagenet_is_told_from_other_folders(folder, monkeypatch):
    (folder.parent / "cache").mkdir()
    folder.rename(folder.parent / "cache" / "imagenet")
    with pytest.raises(DataError, match="2 classes, 4 training and 4 validation images: ImageNet has"):
        load_dataset("imagenet")
    monkeypatch.setattr("splinestudy.data.load.IMAGENET", (2, 4, 4))
    assert load_dataset("imagenet").train.images.shape == (4, 3, 224, 224)


@pytest.fixture
def textured(folder):
    """The folder's training images with a texture of their own, of 24x40 pixels."""
    rng = np.random.default_rng(0)
    for file in sorted((folder / "train").rglob("*.png")):
        Image.fromarray(rng.integers(0, 256, (24, 40, 3), dtype=np.uint8)).save(file)
    return load_dataset("imagefolder", f"{folder}@16")


def random_batches(dataset, skip=0, part=(0, 1)):
    generator = torch.Generator().manual_seed(7)
    return list(batches(dataset.train, dataset, 2, generator=generator, augment=True, skip=skip, part=part))


def test_files_are_cut_mirrored_and_ordered_by_the_generator_alone(textured):
    """Against each image by itself, from the numbers that the generator gives."""
    found = random_batches(textured)
    generator = torch.Generator().manual_seed(7)
    order = torch.randperm(4, generator=generator)
    chances, flips = torch.rand(4, 4, generator=generator), torch.randint(2, (4,), generator=generator)
    expected = []
    for index in order.tolist():
        with Image.open(textured.train.images.files[index]) as picture:
            box = imagefolder.random_box(40, 24, chances[index].tolist())
            image = picture.resize((16, 16), Image.Resampling.BILINEAR, box=box)
        expected.append(np.asarray(image)[:, :: -1 if flips[index] else 1].transpose(2, 0, 1))
    assert flips.sum() not in (0, 4)
    images = torch.cat([images for images, _ in found])
    assert torch.equal(images, normalize(torch.from_numpy(np.stack(expected)), textured))
    assert torch.cat([labels for _, labels in found]).tolist() == textured.train.labels[order].tolist()
    assert all(torch.equal(a, b) for a, b in zip(random_batches(textured, skip=1)[0], found[1], strict=True))
    halves = [random_batches(textured, part=(number, 2)) for number in (0, 1)]
    assert torch.equal(halves[0][0][0], found[0][0][::2])
    assert torch.equal(halves[1][0][0], found[0][0][1::2])


def test_random_boxes_lie_inside_and_have_the_area_that_was_drawn():
    chances = torch.rand(200, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).tolist()
    for each in chances:
        left, top, right, bottom = imagefolder.random_box(300, 300, each)
        assert 0 <= left < right <= 300
        assert 0 <= top < bottom <= 300
        area, ratio = (right - left) * (bottom - top), (right - left) / (bottom - top)
        assert 3 / 4 - 1e-9 < ratio < 4 / 3 + 1e-9
        if right - left < 299 and bottom - top < 299:
            assert area == pytest.approx((0.08 + 0.92 * each[0]) * 300 * 300)


def test_large_jpegs_are_read_small_and_look_the_same(tmp_path):
    x, y = np.meshgrid(np.linspace(0, 255, 640), np.linspace(0, 255, 480))
    Image.fromarray(np.stack([x, y, 255 - x], 2).astype(np.uint8)).save(tmp_path / "a.jpg", quality=95)
    Image.open(tmp_path / "a.jpg").save(tmp_path / "a.png")
    small = [imagefolder.ImageFiles([tmp_path / name], 32)[:].int() for name in ("a.jpg", "a.png")]
    assert (small[0] - small[1]).abs().max() <= 3


def test_image_folder_has_a_default_size(folder):
    assert imagefolder.folder_and_size(folder) == (folder, 224)
    assert imagefolder.folder_and_size(f"{folder}@64") == (folder, 64)
    (folder.parent / "root@32").mkdir()
    assert imagefolder.folder_and_size(f"{folder}@32") == (folder.parent / "root@32", 224)


def test_image_folder_says_which_layout_it_needs(folder):
    layout = "train/<class>/.* and .*val/<class>/"
    with pytest.raises(DataError, match=layout):
        load_dataset("imagefolder", folder.parent)
    (folder / "val" / "cat").mkdir()
    with pytest.raises(DataError, match=f"cat; .*{layout}"):
        load_dataset("imagefolder", folder)
    (folder / "train" / "cat").mkdir()
    for file in (folder / "val").rglob("*.png"):
        file.unlink()
    with pytest.raises(DataError, match=f"val holds no image file .*{layout}"):
        load_dataset("imagefolder", folder)
    with pytest.raises(SettingError, match="needs root"):
        load_dataset("imagefolder")
    with pytest.raises(SettingError, match="0 pixels"):
        load_dataset("imagefolder", f"{folder}@0")


def test_image_folder_names_a_damaged_image(folder):
    (folder / "train" / "ant" / "1.png").write_bytes(b"no image")
    dataset = load_dataset("imagefolder", f"{folder}@16")
    for read in (lambda: dataset.train.images[:], lambda: random_batches(dataset)):
        with pytest.raises(DataError, match=r"ant.1\.png cannot be decoded"):
            read()


def test_a_pipe_among_images_is_no_image(tmp_path):
    from PIL import Image

    for split in ("train", "val"):
        folder = tmp_path / split / "a"
        folder.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(folder / "picture.png")
        os.mkfifo(folder / "pipe.png")
    listing, _ = imagefolder.list_folder(tmp_path)
    assert [[file.name for file, _ in files] for files in listing.values()] == [["picture.png"]] * 2


def test_pictures_and_sizes_that_take_all_memory_are_refused(tmp_path):
    from PIL import Image

    Image.new("L", (2000, 1)).save(tmp_path / "long.png")
    with pytest.raises(DataError, match=r"long\.png cannot be decoded \(2000 x 1 pixels are no picture\)"):
        imagefolder.ImageFiles([tmp_path / "long.png"], 8)[:]
