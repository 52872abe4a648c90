"""Image files in the folder layout of ImageNet, which need not fit memory: decoded when they are asked for."""

import math
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from splinelib.checks import check_memory, count_cores
from splinelib.errors import DataError, SettingError

# Statistics of ImageNet's training images, as commonly published.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DEFAULT_SIZE = 224
_ENDINGS = {".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".webp"}
_CHUNK = 64  # images that a thread decodes at a time where no batch is asked for
_LONGEST = 100  # times as long as wide a picture may be: none is meant that is longer

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


class ImageFiles:
    """Image files that stand for a uint8 tensor ``[N, 3, size, size]``: what an index asks for is decoded then.

    Args:
        files: one for each image.
        size: side of the images in pixels.
        device: where decoded images go.
    """

    dtype = torch.uint8

    def __init__(self, files: Sequence[Path], size: int, device: torch.device | str = "cpu") -> None:
        check_memory(f"an image of {size} pixels", 3 * size**2)
        self.files, self.size, self.device = files, size, torch.device(device)
        self.shape = torch.Size((len(files), 3, size, size))

    def __len__(self) -> int:
        return len(self.files)

    def dim(self) -> int:
        """Number of axes, 4."""
        return 4

    def to(self, device: torch.device | str) -> "ImageFiles":
        """The same files, decoded to ``device``."""
        return ImageFiles(self.files, self.size, device)

    def take(self, indices: Tensor) -> "ImageFiles":
        """The files of these indices, still to be decoded."""
        return ImageFiles([self.files[index] for index in indices.tolist()], self.size, self.device)

    def __getitem__(self, index: slice | Tensor | Sequence[int]) -> Tensor:
        """Images of a slice or of several indices, by their centres (:func:`centre`)."""
        chosen = torch.arange(len(self.files))[index.cpu() if isinstance(index, Tensor) else index]
        check_memory(f"{len(chosen)} images of {self.size} pixels", 3 * len(chosen) * self.size**2)
        parts = chosen.split(_CHUNK)
        return torch.cat(list(self.stream(parts)) or [torch.empty(0, *self.shape[1:], dtype=torch.uint8)])

    def stream(self, batches: Iterable[Tensor], crops: Tensor | None = None) -> Iterator[Tensor]:
        """Batch after batch, the next ones being decoded meanwhile.

        By threads: decoding and scaling leave Python's lock, and nothing has to be copied between processes.

        Args:
            batches: indices [B] of the images of each.
            crops: chances [N, 4] of :func:`random_box`, one row for each image; None for centres.
        """
        workers = max(1, count_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        waiting: deque[Future[Tensor]] = deque()
        pool = ThreadPoolExecutor(workers)
        try:
            for indices in batches:
                waiting.append(pool.submit(self._decode, indices.tolist(), crops))
                if len(waiting) > workers + 1:
                    yield waiting.popleft().result().to(self.device)
            while waiting:
                yield waiting.popleft().result().to(self.device)
        finally:
            pool.shutdown(cancel_futures=True)

    def _decode(self, indices: list[int], crops: Tensor | None) -> Tensor:
        images = np.empty((len(indices), self.size, self.size, 3), dtype=np.uint8)
        for place, index in enumerate(indices):
            chances = None if crops is None else crops[index].tolist()
            images[place] = _decode_file(self.files[index], self.size, chances)
        return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


Box = tuple[float, float, float, float]


def centre(width: int, height: int, size: int) -> Box:
    """The middle square that is left of an image whose shorter side is scaled to 256/224 of ``size``."""
    side = min(width, height) * size / round(size * 256 / 224)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def random_box(width: int, height: int, chances: Sequence[float]) -> Box:
    """A part of an image as ImageNet's training takes it: 8 to 100 % of its area, 3:4 to 4:3, anywhere.

    ``chances`` are four numbers in [0, 1): of area, ratio, left and top. (Szegedy et al., CVPR 2015. Where the part
    would stick out it is cut, where torchvision draws again.)
    """
    area = (0.08 + 0.92 * chances[0]) * width * height
    ratio = (4 / 3) ** (2 * chances[1] - 1)
    across, down = min(width, math.sqrt(area * ratio)), min(height, math.sqrt(area / ratio))
    left, top = chances[2] * (width - across), chances[3] * (height - down)
    return left, top, left + across, top + down


def _subfolders(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir() if each.is_dir()) if folder.is_dir() else []


def _decode_file(file: Path, size: int, chances: Sequence[float] | None) -> np.ndarray:
    """One image, [size, size, 3]."""
    from PIL import Image

    try:
        with Image.open(file) as picture:
            width, height = picture.size
            short, long = sorted(picture.size)
            if long > _LONGEST * short or short * long > Image.MAX_IMAGE_PIXELS:  # type: ignore[operator]
                raise ValueError(f"{width} x {height} pixels are no picture")
            box = centre(width, height, size) if chances is None else random_box(width, height, chances)
            # A JPEG can be read at a half, a quarter or an eighth, as long as the part keeps the pixels that it needs.
            scale = min(1.0, size / min(box[2] - box[0], box[3] - box[1]))
            picture.draft("RGB", (math.ceil(width * scale), math.ceil(height * scale)))
            across, down = picture.width / width, picture.height / height
            read = (box[0] * across, box[1] * down, box[2] * across, box[3] * down)
            return np.asarray(
                picture.convert("RGB").resize((size, size), Image.Resampling.BILINEAR, box=read)
            )
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{file} cannot be decoded ({error}); replace it or take it out") from error
