"""Image files in the folder layout of ImageNet, decoded once and cached."""

import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from splinelib.checks import check_memory
from splinelib.errors import DataError, SettingError
from splinelib.files import sha256_of
from splinelib.progress import progress
from splinestudy.data.arrays import Arrays

# Statistics of ImageNet's training images, as commonly published.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DEFAULT_SIZE = 224
_ENDINGS = {".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".webp"}
_LONGEST = 100  # times as long as wide a picture may be: it is scaled whole before its centre is cut out

Listing = dict[str, list[tuple[Path, int]]]  # split -> (file, label)


def folder_and_size(root: Path | str | None) -> tuple[Path, int]:
    """Split ``root`` into folder and image size: ``path`` means 224 pixels, ``path@64`` means 64.

    Raises:
        SettingError: ``root`` is None or the size is 0.
    """
    if root is None:
        raise SettingError(
            "data set 'imagefolder' needs root; give the folder with train/ and val/, "
            "optionally followed by @ and the image size, such as /data/imagenet@64"
        )
    folder = Path(root).expanduser()
    match = re.fullmatch(r"(.+)@(\d{1,9})", str(folder))
    if match is None or folder.is_dir():
        return folder, DEFAULT_SIZE
    if int(match[2]) == 0:
        raise SettingError(f"root {root} asks for images of 0 pixels; give a size of at least 1 after the @")
    return Path(match[1]), int(match[2])


def list_folder(folder: Path) -> tuple[Listing, tuple[str, ...]]:
    """Image files with their labels, and the names of the classes in the order of their labels.

    Raises:
        DataError: The layout is not ``train/<class>/*`` and ``val/<class>/*`` with the same classes in both.
    """
    wanted = f"{folder}/train/<class>/* and {folder}/val/<class>/* with the same classes in both"
    names = {split: _subfolders(folder / split) for split in ("train", "val")}
    if not names["train"] or names["train"] != names["val"]:
        odd = sorted(set(names["train"]) ^ set(names["val"]))[:5]
        raise DataError(
            f"{folder} has {len(names['train'])} classes in train/ and {len(names['val'])} in val/"
            f"{', differing in ' + ', '.join(odd) if odd else ''}; the layout must be {wanted}"
        )
    listing: Listing = {}
    for split, classes in names.items():
        listing[split] = [
            (file, label)
            for label, name in enumerate(classes)
            for file in sorted((folder / split / name).rglob("*"))
            if file.suffix.lower() in _ENDINGS and file.is_file()  # a pipe would wait for its writer
        ]
        if not listing[split]:
            kinds = ", ".join(sorted(_ENDINGS))
            raise DataError(f"{folder / split} holds no image file ({kinds}); the layout must be {wanted}")
    return listing, tuple(names["train"])


def cache_name(listing: Listing, size: int) -> str:
    """A name that changes with the image size and with every file's path, length and time of change."""
    states = ((file, label, file.stat()) for split in listing.values() for file, label in split)
    lines = [f"{file.resolve()} {label} {state.st_size} {state.st_mtime_ns}" for file, label, state in states]
    check = sha256_of("\n".join(lines).encode())
    return f"imagefolder-{size}-{check[:16]}"


def decode_folder(listing: Listing, size: int) -> Arrays:
    """All images as uint8 ``[N, 3, size, size]``; the files of ``val`` become the test split.

    The shorter side is scaled to 256/224 of ``size`` (bilinear, antialiased), then the centre is cut out. The
    images stay in memory: ImageNet takes 16 GB at 64 pixels and 190 GB at 224.

    Raises:
        DataError: A file cannot be decoded.
    """
    arrays: list[np.ndarray] = []
    count = sum(map(len, listing.values()))
    check_memory(f"an image folder of {count} images of {size} pixels", 3 * count * size**2)
    for split, files in listing.items():
        images = np.empty((len(files), 3, size, size), dtype=np.uint8)
        read: Callable[[Path], np.ndarray] = partial(_decode_file, size=size)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            decoded = pool.map(read, [file for file, _ in files])
            for index, image in enumerate(progress(decoded, f"decoding {split}", len(files))):
                images[index] = image
        arrays += [images, np.array([label for _, label in files], dtype=np.int64)]
    return Arrays(*arrays)


def _subfolders(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir() if each.is_dir()) if folder.is_dir() else []


def _decode_file(file: Path, size: int) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(file) as picture:
            short, long = sorted(picture.size)
            if long > _LONGEST * short or short * long > Image.MAX_IMAGE_PIXELS:  # type: ignore[operator]
                raise ValueError(f"{picture.width} x {picture.height} pixels are no picture")
            scale = round(size * 256 / 224) / short
            shape = [max(size, round(side * scale)) for side in picture.size]
            scaled = picture.convert("RGB").resize((shape[0], shape[1]), Image.Resampling.BILINEAR)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{file} cannot be decoded ({error}); replace it or take it out") from error
    left, top = (shape[0] - size) // 2, (shape[1] - size) // 2
    cropped = scaled.crop((left, top, left + size, top + size))
    return np.asarray(cropped).transpose(2, 0, 1)
