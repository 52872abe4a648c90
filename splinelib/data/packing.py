"""Packing a data set into pieces for machines without a network."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from splinelib.artifacts import sha256_of
from splinelib.bars import progress
from splinelib.data.arrays import Arrays, digest
from splinelib.data.blocks import encode_block
from splinelib.data.catalogue import ENTRIES
from splinelib.data.load import load_dataset
from splinelib.data.pieces import PIECE_COST, Block, Piece, block_cost, write_piece
from splinelib.errors import DataError, SettingError

MEGABYTE = 1_000_000
_BLOCK_IMAGES = 1024  # more images per block code no better, fewer code worse


def pack(dataset_name: str, out: Path | str, max_mb: float, root: Path | str | None = None) -> list[Path]:
    """Write a data set losslessly as independent files, each no larger than asked.

    The pieces may be copied separately, in any order; :func:`splinelib.data.unpack` puts them together again.
    CIFAR-10 comes to 102 MB.

    Args:
        dataset_name: ``cifar10``, ``cifar100``, ``mnist`` or ``fashion_mnist``.
        out: Folder for the pieces.
        max_mb: Largest size of a piece, in units of 1,000,000 bytes.
        root: Where the data set is cached, as for :func:`splinelib.data.load_dataset`.

    Returns:
        The paths of the pieces in their order.

    Raises:
        SettingError: The data set is not one of these, or ``max_mb`` has no room for a few images.
        DataError: The data set cannot be had, ``out`` cannot be written, or Pillow was built without WebP.
    """
    if dataset_name not in ENTRIES:
        raise SettingError(f"data set {dataset_name!r} cannot be packed; choose from {', '.join(ENTRIES)}")
    dataset = load_dataset(dataset_name, root)
    splits = (dataset.train, dataset.test)
    arrays = Arrays(*(tensor.numpy() for split in splits for tensor in (split.images, split.labels)))
    limit = int(max_mb * MEGABYTE)
    spans = _spans(arrays, limit)
    blocks = [_block(arrays, *span) for span in progress(spans, f"packing {dataset_name}", len(spans))]
    groups = list(_groups(blocks, limit))
    arrays_sha256 = digest(arrays)
    # Names this very division into pieces, so that pieces of two divisions are never mixed.
    identity = sha256_of(arrays_sha256.encode(), *(f"{len(g)} {g[0].sha256}".encode() for g in groups))[:16]
    pieces = [
        Piece(dataset_name, arrays_sha256, identity, index, len(groups), tuple(group))
        for index, group in enumerate(groups)
    ]
    try:
        return [write_piece(Path(out), piece) for piece in pieces]
    except OSError as error:
        raise DataError(
            f"pieces cannot be written into {out} ({error}); choose a folder with room"
        ) from error


def _spans(arrays: Arrays, limit: int) -> list[tuple[str, int, int]]:
    """Split, first and end of each block; even images that no coder shrinks fit into half a piece."""
    cost = 2 * arrays.train_images[0].nbytes
    images = min(_BLOCK_IMAGES, (limit - PIECE_COST) // cost)
    if images < 1:
        least = (PIECE_COST + cost) / MEGABYTE
        raise SettingError(f"max_mb is {limit / MEGABYTE:g}; a piece needs at least {least:.3f} MB")
    spans = []
    for split, labels in (("train", arrays.train_labels), ("test", arrays.test_labels)):
        edges = [*range(0, len(labels), images), len(labels)]
        spans += [(split, first, end) for first, end in itertools.pairwise(edges)]
    return spans


def _block(arrays: Arrays, split: str, first: int, end: int) -> Block:
    images: np.ndarray = getattr(arrays, f"{split}_images")
    labels: np.ndarray = getattr(arrays, f"{split}_labels")
    content = encode_block(images[first:end])
    return Block(split, first, labels[first:end].tolist(), sha256_of(content), content)


def _groups(blocks: list[Block], limit: int) -> Iterator[list[Block]]:
    """Consecutive blocks that fill one piece each."""
    group: list[Block] = []
    size = PIECE_COST
    for block in blocks:
        cost = block_cost(block)
        if group and size + cost > limit:
            yield group
            group, size = [], PIECE_COST
        group.append(block)
        size += cost
    yield group
