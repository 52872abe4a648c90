"""Getting a published data set that is not cached: from files put by hand, else from its sources."""

import hashlib
import logging
import tempfile
from pathlib import Path

import numpy as np

from splinelib.checks import shown
from splinelib.errors import DataError
from splinelib.files import file_errors
from splinestudy.data.arrays import Arrays, digest
from splinestudy.data.cache import cache_path, writing
from splinestudy.data.catalogue import Entry
from splinestudy.data.decode import SIDE, read_files

log = logging.getLogger(__name__)


def obtain(entry: Entry, root: Path) -> Arrays:
    """Decoded and verified arrays from what lies below ``root``, else from the sources in their order.

    Raises:
        DataError: Nothing gave the data set; the message lists what was tried, why each failed, and where to
            put which files by hand.
    """
    tried = []
    for by_hand in entry.by_hand:
        path = root / by_hand.name
        if not (path.is_file() or path.is_dir()):  # a pipe would wait for its writer
            continue
        try:
            return _decoded(entry, path, by_hand.md5)
        except DataError as error:
            tried.append(str(error))
            log.warning("%s", error)
    for source in entry.sources:
        log.info("getting data set %s from %s", entry.name, source.label)
        try:
            # Beside the cached file, where there is room; the folder for temporary files may be small.
            with writing(root), tempfile.TemporaryDirectory(prefix=f".{entry.name}-", dir=root) as folder:
                return _decoded(entry, source.fetch(Path(folder)), None)
        except DataError as error:
            tried.append(f"{source.label}: {error}")
            log.info("%s", tried[-1])
    raise DataError(_advice(entry, root, tried))


def verify(entry: Entry, arrays: Arrays, class_names: tuple[str, ...], origin: str) -> None:
    """Raise DataError, naming ``origin``, unless names, shapes, labels and digest are those of ``entry``."""
    if class_names != entry.class_names:
        raise DataError(
            f"{origin} holds the classes {shown(class_names)}, which are not those of {entry.name}"
        )
    for split, count in (("train", entry.counts[0]), ("test", entry.counts[1])):
        images, labels = getattr(arrays, f"{split}_images"), getattr(arrays, f"{split}_labels")
        if images.shape != (count, entry.channels, SIDE, SIDE) or labels.shape != (count,):
            raise DataError(
                f"{origin} holds {split} arrays of shape {images.shape} and {labels.shape}, which is not "
                f"{entry.name} ({count} images); it is damaged or another data set"
            )
        classes = len(entry.class_names)
        if labels.min() < 0 or labels.max() >= classes:
            raise DataError(f"{origin} holds labels outside 0 to {classes - 1}; it is damaged")
        if entry.digest is None and len(set(np.bincount(labels, minlength=classes))) != 1:
            raise DataError(
                f"{origin} does not hold the same number of {split} images of each class; it is damaged"
            )
    if entry.digest is not None and (found := digest(arrays)) != entry.digest:
        raise DataError(f"{origin} decodes to SHA-256 {found}, not {entry.digest}; it is damaged or altered")


def _decoded(entry: Entry, path: Path, md5: str | None) -> Arrays:
    if md5 is not None:
        with file_errors(path, "read"), open(path, "rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if found != md5:
            raise DataError(f"{path} has MD5 {found}, not {md5}; put an intact copy in its place")
    try:
        arrays = entry.decode(read_files(path, entry.files))
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    verify(entry, arrays, entry.class_names, str(path))
    return arrays


def _advice(entry: Entry, root: Path, tried: list[str]) -> str:
    lines = "".join(f"\n  - {reason}" for reason in tried)
    return (
        f"data set {entry.name!r} could not be had. Tried:{lines}\n"
        f"By hand: {_places(entry, root)}; or copy {cache_path(entry.name, root)} from a machine that has the data set."
    )


def _places(entry: Entry, root: Path) -> str:
    files = ", ".join(entry.files)
    return "; or ".join(
        f"put the archive {root / each.name}"
        if each.name.endswith((".tgz", ".tar.gz"))
        else f"put {files} (as they are or with .gz) into the folder {root / each.name}"
        for each in entry.by_hand
    )
