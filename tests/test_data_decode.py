"""Files of data sets decoded: alike from every source, and damaged ones named."""

import gzip

import numpy as np
import pytest
from tiny_data import binary_files, idx_folder, png_files, tiny_arrays, write_tar

from splinelib.errors import DataError
from splinestudy.data import decode
from splinestudy.data.arrays import digest


def test_cifar10_decodes_alike_from_binary_archive_and_from_png_package(tmp_path):
    arrays = tiny_arrays()
    for files in (binary_files(arrays), png_files(arrays)):
        archive = write_tar(tmp_path / "archive.tgz", files)
        decoded = decode.cifar10(decode.read_files(archive, decode.CIFAR10_BINARY + decode.CIFAR10_PNG))
        assert digest(decoded) == digest(arrays)


def test_cifar100_takes_the_fine_label():
    images = tiny_arrays().test_images[:2]
    record = b"".join(
        bytes([coarse, fine]) + image.tobytes()
        for coarse, fine, image in zip((7, 8), (70, 99), images, strict=True)
    )
    decoded = decode.cifar100({"train.bin": record, "test.bin": record})
    assert decoded.train_labels.tolist() == [70, 99]
    assert np.array_equal(decoded.test_images, images)


@pytest.mark.parametrize("compress", [False, True])
def test_idx_files_of_a_folder_are_padded_to_32_pixels(tmp_path, compress):
    train, train_labels, test, test_labels = idx_folder(tmp_path / "any" / "depth", compress)
    decoded = decode.idx(decode.read_files(tmp_path, decode.IDX))
    assert decoded.train_images.shape == (12, 1, 32, 32)
    assert np.array_equal(decoded.train_images[:, 0, 2:30, 2:30], train)
    assert decoded.train_images.sum(dtype=np.int64) == train.sum(dtype=np.int64)
    assert np.array_equal(decoded.test_images[:, 0, 2:30, 2:30], test)
    assert np.array_equal(decoded.train_labels, train_labels)
    assert np.array_equal(decoded.test_labels, test_labels)
    assert decoded.train_labels.dtype == np.int64


@pytest.mark.parametrize(
    ("decoder", "files", "named"),
    [
        (decode.cifar10, {"data_batch_1.png": b""}, "data_batch_2.png"),
        (decode.cifar10, binary_files(tiny_arrays()) | {"data_batch_3.bin": b"12345"}, "data_batch_3.bin"),
        (decode.cifar10, png_files(tiny_arrays()) | {"data_batch_3.png": b"12345"}, "data_batch_3.png"),
        (decode.cifar10, png_files(tiny_arrays()) | {"test_lables.json": b"[1, "}, "test_lables.json"),
        (decode.cifar100, {"train.bin": b"", "test.bin": b""}, "train.bin"),
        (decode.idx, dict.fromkeys(decode.IDX, b"\0\0\x0d\x01"), decode.IDX[0]),
        (decode.idx, dict.fromkeys(decode.IDX, b"\0\0\x08\x01\0\0\0\x02."), decode.IDX[0]),
        (decode.idx, dict.fromkeys(decode.IDX, b"\0\0\x08\x03\0\0"), decode.IDX[0]),
    ],
)
def test_a_damaged_file_is_named(decoder, files, named):
    with pytest.raises(DataError, match=named):
        decoder(files)


def test_truncated_png_is_named():
    files = png_files(tiny_arrays())
    files["data_batch_2.png"] = files["data_batch_2.png"][:-5000]
    with pytest.raises(DataError, match="data_batch_2.png"):
        decode.cifar10(files)


@pytest.mark.parametrize("keep", [10, 2000])
def test_truncated_archive_is_named(tmp_path, keep):
    archive = write_tar(tmp_path / "archive.tgz", binary_files(tiny_arrays()))
    archive.write_bytes(archive.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"archive\.tgz"):
        decode.read_files(archive, decode.CIFAR10_BINARY)


def test_an_archive_is_read_without_writing_any_member(tmp_path):
    (tmp_path / "inner").mkdir()
    archive = write_tar(tmp_path / "inner" / "archive.tgz", {"test_batch.bin": b"x"}, folder="..")
    assert decode.read_files(archive, decode.CIFAR10_BINARY) == {"test_batch.bin": b"x"}
    assert [each.name for each in tmp_path.rglob("*")] == ["inner", "archive.tgz"]


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "LARGEST", 1000)
    (tmp_path / "train.bin.gz").write_bytes(gzip.compress(bytes(10**6)))
    with pytest.raises(DataError, match=r"train\.bin\.gz has more than 1000 bytes"):
        decode.read_files(tmp_path, ("train.bin",))
