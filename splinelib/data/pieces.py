"""The form in which a data set travels: independent ZIP files with a manifest and losslessly coded images.

A piece ``cifar10.000-of-002.zip`` holds ``manifest.json`` and blocks ``00000.webp`` and so on. A block is one
lossless WebP image that tiles up to 1,024 images of a split, 32 in a row. The manifest names the data set
and the SHA-256 of all its arrays, tells which piece of how many this is, and gives for each block its split,
place, labels and SHA-256. Of the coders tried on CIFAR-10 (tiled PNG 130 MB, JPEG 2000 102 MB, WebP 102 MB)
WebP is the smallest and the quickest to decode.
"""

import json
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from splinelib.artifacts import atomic_path, sha256_of
from splinelib.errors import DataError

FORMAT = "splinelib pieces 1"
MANIFEST = "manifest.json"
PIECE_COST = 2048  # upper bound on the bytes of a piece without blocks
NAME = re.compile(r"(?P<dataset>\w+)\.(?P<index>\d+)-of-(?P<total>\d+)\.zip")


# What reading an altered ZIP file or manifest can raise.
_BROKEN = (zipfile.BadZipFile, zlib.error, OSError, EOFError, KeyError, TypeError, ValueError, RuntimeError)


@dataclass(frozen=True)
class Block:
    """Consecutive images of a split in one coded image.

    Args:
        split: ``train`` or ``test``.
        first: Index of the first image in its split.
        labels: One per image.
        sha256: Of ``content``.
        content: The coded image.
    """

    split: str
    first: int
    labels: list[int]
    sha256: str
    content: bytes


@dataclass(frozen=True)
class Piece:
    """One file of a packed data set.

    Args:
        dataset: Name of the data set.
        arrays_sha256: Digest of the whole data set's arrays.
        pack: Common to all pieces that belong together.
        index: Number of this piece, from 0.
        total: How many pieces there are.
        blocks: What it carries.
    """

    dataset: str
    arrays_sha256: str
    pack: str
    index: int
    total: int
    blocks: tuple[Block, ...]


def piece_name(dataset: str, index: int, total: int) -> str:
    """File name of a piece."""
    return f"{dataset}.{index:03d}-of-{total:03d}.zip"


def block_cost(block: Block) -> int:
    """Upper bound on the bytes that a block adds to a piece: content, ZIP entry, manifest entry."""
    return len(block.content) + len(json.dumps(_description(block))) + 256


def _description(block: Block) -> dict[str, object]:
    return {"split": block.split, "first": block.first, "labels": block.labels, "sha256": block.sha256}


def write_piece(folder: Path, piece: Piece) -> Path:
    """Write a piece atomically into ``folder`` and return its path; equal pieces give equal files."""
    manifest = {
        "format": FORMAT,
        "dataset": piece.dataset,
        "arrays_sha256": piece.arrays_sha256,
        "pack": piece.pack,
        "index": piece.index,
        "total": piece.total,
        "blocks": [_description(block) for block in piece.blocks],
    }
    path = folder / piece_name(piece.dataset, piece.index, piece.total)
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        # ZipInfo without a date stands for 1980, so that the file does not depend on the time of writing.
        archive.writestr(zipfile.ZipInfo(MANIFEST), json.dumps(manifest))
        for number, block in enumerate(piece.blocks):
            archive.writestr(zipfile.ZipInfo(f"{number:05d}.webp"), block.content)
    return path


def read_piece(path: Path) -> Piece:
    """Read a piece and check every byte of it that counts.

    Raises:
        DataError: The file is truncated, altered or no piece; the message names it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = json.loads(archive.read(MANIFEST))
            if manifest["format"] != FORMAT:
                raise ValueError(f"its format is {manifest['format']!r}, not {FORMAT!r}")
            contents = [archive.read(f"{number:05d}.webp") for number in range(len(manifest["blocks"]))]
        described = zip(manifest["blocks"], contents, strict=True)
        blocks = tuple(Block(**each, content=content) for each, content in described)
        names = ("dataset", "arrays_sha256", "pack", "index", "total")
        piece = Piece(**{name: manifest[name] for name in names}, blocks=blocks)
    except _BROKEN as error:
        raise DataError(f"piece {path} is damaged ({error}); copy it again") from error
    for number, block in enumerate(piece.blocks):
        if sha256_of(block.content) != block.sha256:
            raise DataError(f"piece {path} is damaged (block {number} has the wrong SHA-256); copy it again")
    return piece
