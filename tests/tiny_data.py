"""A made-up data set in the form of CIFAR-10's files, with a source that needs no network."""

import gzip
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from splinelib.errors import DataError
from splinestudy.data import decode
from splinestudy.data.arrays import Arrays, digest
from splinestudy.data.catalogue import CIFAR10, CIFAR100, ENTRIES, ByHand, Entry
from splinestudy.data.sources import Source

TRAIN, TEST = 50, 20


def tiny_arrays(channels=3, seed=0, train=TRAIN, test=TEST, classes=10) -> Arrays:
    """Random images; every class has the same number of them."""
    rng = np.random.default_rng(seed)
    arrays = []
    for count in (train, test):
        arrays.append(rng.integers(0, 256, (count, channels, 32, 32), dtype=np.uint8))
        arrays.append(rng.permutation(np.arange(count) % classes).astype(np.int64))
    return Arrays(*arrays)


def binary_files(arrays: Arrays) -> dict[str, bytes]:
    """The six files of CIFAR-10's binary archive."""

    def records(images, labels):
        return b"".join(bytes([label]) + image.tobytes() for image, label in zip(images, labels, strict=True))

    parts = zip(np.split(arrays.train_images, 5), np.split(arrays.train_labels, 5), strict=True)
    files = {f"data_batch_{k}.bin": records(*part) for k, part in enumerate(parts, 1)}
    return files | {"test_batch.bin": records(arrays.test_images, arrays.test_labels)}


def png_files(arrays: Arrays) -> dict[str, bytes]:
    """The eight files of the registry package: one row of 1,024 RGB pixels per image."""

    def png(images):
        buffer = io.BytesIO()
        rows = np.ascontiguousarray(images.transpose(0, 2, 3, 1)).reshape(len(images), 1024, 3)
        Image.fromarray(rows).save(buffer, "PNG")
        return buffer.getvalue()

    files = {f"data_batch_{k}.png": png(part) for k, part in enumerate(np.split(arrays.train_images, 5), 1)}
    files["test_batch.png"] = png(arrays.test_images)
    files["train_lables.json"] = json.dumps(arrays.train_labels.tolist()).encode()
    files["test_lables.json"] = json.dumps(arrays.test_labels.tolist()).encode()
    return files


def write_tar(path: Path, files: dict[str, bytes], folder: str = "package") -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


class CountingSource:
    """Writes the binary archive of ``arrays``, and counts how often it was asked."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays, self.calls = arrays, 0

    def fetch(self, folder: Path) -> Path:
        self.calls += 1
        return write_tar(folder / "archive.tar.gz", binary_files(self.arrays))


def dead_source(label: str, reason: str) -> Source:
    def fetch(folder: Path) -> Path:
        raise DataError(reason)

    return Source(label, fetch)


def use_entry(monkeypatch: pytest.MonkeyPatch, arrays: Arrays, **changes) -> Entry:
    """Let the name cifar10 stand for ``arrays``; no source unless given."""
    known = {
        "counts": (len(arrays.train_labels), len(arrays.test_labels)),
        "digest": digest(arrays),
        "sources": (),
        "by_hand": (ByHand("cifar-10-binary.tar.gz"),),
    }
    entry = replace(CIFAR10, **(known | changes))
    monkeypatch.setitem(ENTRIES, "cifar10", entry)
    return entry


def use_entry_without_digest(monkeypatch: pytest.MonkeyPatch, arrays: Arrays, **changes) -> Entry:
    """Let the name cifar100 stand for ``arrays`` of 100 classes, whose digest is not known."""
    counts = (len(arrays.train_labels), len(arrays.test_labels))
    entry = replace(CIFAR100, counts=counts, **({"sources": ()} | changes))
    monkeypatch.setitem(ENTRIES, "cifar100", entry)
    return entry


def as_arrays(dataset):
    return (dataset.train.images, dataset.train.labels, dataset.test.images, dataset.test.labels)


def assert_same(dataset, arrays):
    for found, wanted in zip(as_arrays(dataset), arrays, strict=True):
        assert torch.equal(found, torch.from_numpy(wanted))


def idx_file(array):
    axes = b"".join(length.to_bytes(4, "big") for length in array.shape)
    return b"\0\0\x08" + bytes([array.ndim]) + axes + array.tobytes()


def idx_folder(folder, compress):
    rng = np.random.default_rng(0)
    arrays = [
        array
        for count in (12, 5)
        for array in (
            rng.integers(256, size=(count, 28, 28), dtype=np.uint8),
            np.arange(count, dtype=np.uint8),
        )
    ]
    folder.mkdir(parents=True)
    for name, array in zip(decode.IDX, arrays, strict=True):
        content = idx_file(array)
        if compress:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return arrays
