"""The one way to get a data set by its name."""

from pathlib import Path

import torch

from splinelib.checks import checked
from splinelib.errors import DataError, SettingError
from splinestudy.caches import cache_dir
from splinestudy.data import digits, imagefolder
from splinestudy.data.arrays import Arrays
from splinestudy.data.cache import cache_path, cached
from splinestudy.data.catalogue import ENTRIES
from splinestudy.data.dataset import Dataset, Split
from splinestudy.data.obtain import obtain, verify

DATASETS = (*ENTRIES, "digits", "imagenet", "imagefolder")
IMAGENET = (1000, 1_281_167, 50_000)
"""Classes, training and validation images of ILSVRC 2012."""

Statistic = tuple[float, ...]


def data_root(root: Path | str | None = None) -> Path:
    """``root`` if given, else ``$SPLINELIB_DATA``, else a folder in the user's cache."""
    return Path(root).expanduser() if root is not None else cache_dir("SPLINELIB_DATA", "data")


@checked
def load_dataset(name: str, root: Path | str | None = None) -> Dataset:
    """Load a data set, fetching and caching it the first time; all but image files are in memory then.

    * ``cifar10``, ``cifar100``: 50,000 + 10,000 images of 3x32x32.
    * ``mnist``, ``fashion_mnist``: 60,000 + 10,000 images of 1x28x28, served as 1x32x32 with two rows or
      columns of zeros on every side, so that every network takes every data set.
    * ``digits``: scikit-learn's 1,797 images, enlarged to 1x32x32; nothing is downloaded.
    * ``imagenet``: ILSVRC 2012 as image files in ``imagenet/train/<class>/*`` and ``imagenet/val/<class>/*`` below
      the folder of cached files, decoded batch by batch; the numbers of classes and files are checked.
    * ``imagefolder``: your own image files, see :mod:`splinestudy.data.imagefolder` for layout and size.

    The first four are looked for in their cached file, in files put by hand, on torchvision's servers and in
    a package of a package registry. Decoded arrays are checked against a SHA-256; for ``cifar100``, whose
    digest is not known here, against the archive's MD5 and the number of images of each class.

    Args:
        name: One of :data:`DATASETS`.
        root: Folder of the cached files, default ``$SPLINELIB_DATA`` or else the user's cache folder. Unused
            by ``digits``. For ``imagefolder`` the folder with ``train/<class>/*`` and ``val/<class>/*``,
            required; ``path@64`` asks for 64x64 pixels instead of 224x224.

    Raises:
        SettingError: The name is unknown, or ``imagefolder`` has no ``root``.
        DataError: The data set cannot be had; the message lists what was tried and what to do by hand.
    """
    if name in ENTRIES:
        entry, folder = ENTRIES[name], data_root(root)
        path = cache_path(name, folder)
        arrays, _ = cached(
            path,
            lambda: (obtain(entry, folder), entry.class_names),
            entry.digest,
            # With a digest nothing else needs a look.
            lambda named: verify(entry, *named, str(path)) if entry.digest is None else None,
        )
        return _dataset(name, arrays, entry.mean, entry.std, entry.flip, entry.class_names)
    if name == "digits":
        return _dataset(name, digits.digits_arrays(), digits.MEAN, digits.STD, False, tuple("0123456789"))
    if name == "imagefolder":
        return _folder(name, *imagefolder.folder_and_size(root))
    if name == "imagenet":
        return _imagenet(*imagefolder.folder_and_size(root or data_root() / "imagenet"))
    raise SettingError(f"data set {name!r} is unknown; choose from {', '.join(DATASETS)}")


def _imagenet(folder: Path, size: int) -> Dataset:
    found = _folder("imagenet", folder, size)
    counts = found.num_classes, len(found.train), len(found.test)
    if counts != IMAGENET:
        raise DataError(
            f"{folder} has {counts[0]} classes, {counts[1]} training and {counts[2]} validation images: ImageNet has "
            f"{IMAGENET}; complete it, or load it as 'imagefolder'"
        )
    return found


def _folder(name: str, folder: Path, size: int) -> Dataset:
    listing, names = imagefolder.list_folder(folder)
    train, test = (
        Split(
            imagefolder.ImageFiles([file for file, _ in listing[part]], size),
            torch.tensor([label for _, label in listing[part]]),
        )
        for part in ("train", "val")
    )
    return Dataset(name, train, test, len(names), imagefolder.MEAN, imagefolder.STD, True, names)


def _dataset(
    name: str, arrays: Arrays, mean: Statistic, std: Statistic, flip: bool, class_names: tuple[str, ...]
) -> Dataset:
    train = Split(torch.from_numpy(arrays.train_images), torch.from_numpy(arrays.train_labels))
    test = Split(torch.from_numpy(arrays.test_images), torch.from_numpy(arrays.test_labels))
    return Dataset(name, train, test, len(class_names), mean, std, flip, class_names)
