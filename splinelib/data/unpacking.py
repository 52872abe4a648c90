"""Putting the pieces of a packed data set together again, and saying which are still missing."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from splinelib.bars import progress
from splinelib.data.arrays import Arrays, digest, write_arrays
from splinelib.data.blocks import decode_block
from splinelib.data.cache import cache_path, writing
from splinelib.data.catalogue import ENTRIES, Entry
from splinelib.data.decode import SIDE
from splinelib.data.load import data_root
from splinelib.data.obtain import verify
from splinelib.data.pieces import NAME, Block, Piece, piece_name, read_piece
from splinelib.errors import DataError

log = logging.getLogger(__name__)

Packs = dict[str, dict[str, dict[int, Piece]]]  # data set -> division into pieces -> index -> piece


def unpack(pieces: Path | str | Sequence[Path | str], root: Path | str | None = None) -> dict[str, Path]:
    """Restore every data set of which all pieces have arrived, and verify it.

    Args:
        pieces: Folders that hold pieces, or pieces themselves. They are not changed.
        root: Where to put the cached files, as for :func:`splinelib.data.load_dataset`.

    Returns:
        The cached file of each restored data set.

    Raises:
        DataError: Pieces are missing or damaged. The message names each of them; what is complete was
            restored all the same. Copy what it names and call again.
    """
    paths = _piece_paths([pieces] if isinstance(pieces, Path | str) else pieces)
    packs, damaged = _read_pieces(paths)
    restored, problems = {}, []
    for name in sorted({*packs, *damaged}):
        complete = [pack for pack in packs[name].values() if len(pack) == _total(pack)]
        if not complete:
            problems.append(_report(name, packs[name], damaged[name]))
            continue
        for reason in damaged[name].values():
            log.warning("%s; it is not needed, another copy is intact", reason)
        try:
            restored[name] = _restore(name, complete[0], data_root(root))
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(problems))
    return restored


def _piece_paths(places: Sequence[Path | str]) -> list[Path]:
    paths: list[Path] = []
    for place in map(Path, places):
        found = sorted(each for each in place.glob("*.zip") if NAME.fullmatch(each.name))
        if place.is_file():
            found = [place]
        if not found:
            example = piece_name("cifar10", 0, 2)
            raise DataError(f"{place} holds no pieces; give a folder with files such as {example}")
        paths += found
    return paths


def _read_pieces(paths: list[Path]) -> tuple[Packs, dict[str, dict[str, str]]]:
    """Intact pieces, and for each data set the damaged files with the reason."""
    packs: Packs = defaultdict(lambda: defaultdict(dict))
    damaged: dict[str, dict[str, str]] = defaultdict(dict)
    for path in progress(paths, "reading pieces"):
        try:
            piece = read_piece(path)
            if piece.dataset not in ENTRIES:
                raise DataError(f"piece {path} is of data set {piece.dataset!r}, which is unknown here")
            packs[piece.dataset][piece.pack][piece.index] = piece
        except DataError as error:
            match = NAME.fullmatch(path.name)
            damaged[match["dataset"] if match else path.name][path.name] = str(error)
    return packs, damaged


def _total(pack: dict[int, Piece]) -> int:
    return next(iter(pack.values())).total


def _report(name: str, packs: dict[str, dict[int, Piece]], damaged: dict[str, str]) -> str:
    """What is here and what is not, for one data set."""
    lines = []
    for pack in packs.values():
        total = _total(pack)
        names = [piece_name(name, index, total) for index in range(total) if index not in pack]
        missing = [each for each in names if each not in damaged]
        lines.append(f"data set {name!r}: {len(pack)} of {total} pieces are here and intact")
        if missing:
            lines.append(f"  missing: {', '.join(missing)}")
    if not packs:
        lines.append(f"data set {name!r}: no intact piece is here")
    lines += [f"  damaged: {reason}" for reason in damaged.values()]
    return "\n".join(lines)


def _restore(name: str, pack: dict[int, Piece], root: Path) -> Path:
    entry = ENTRIES[name]
    first = pack[min(pack)]
    arrays = _empty(entry)
    blocks = [block for index in sorted(pack) for block in pack[index].blocks]
    for block in progress(blocks, f"unpacking {name}", len(blocks)):
        _place(arrays, block, name)
    verify(entry, arrays, f"the pieces of data set {name!r}")
    if (found := digest(arrays)) != first.arrays_sha256:
        raise DataError(
            f"the pieces of {name!r} decode to SHA-256 {found}, not {first.arrays_sha256}; pack it again"
        )
    path = cache_path(name, root)
    with writing(path):
        write_arrays(path, arrays, entry.class_names)
    return path


def _empty(entry: Entry) -> Arrays:
    train, test = entry.counts
    shape = (entry.channels, SIDE, SIDE)
    return Arrays(
        np.zeros((train, *shape), np.uint8),
        np.zeros(train, np.int64),
        np.zeros((test, *shape), np.uint8),
        np.zeros(test, np.int64),
    )


def _place(arrays: Arrays, block: Block, name: str) -> None:
    images, labels = getattr(arrays, f"{block.split}_images"), getattr(arrays, f"{block.split}_labels")
    end = block.first + len(block.labels)
    if end > len(labels):
        raise DataError(f"pieces of {name!r} hold more images than the data set; pack it again")
    images[block.first : end] = decode_block(block.content, len(block.labels), images.shape[1], SIDE)
    labels[block.first : end] = block.labels
