"""The cached file of a data set: found again, checked byte by byte, and never half written."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_data import CountingSource, assert_same, tiny_arrays, use_entry

from splinelib.errors import DataError
from splinestudy.data import load_dataset
from splinestudy.data.arrays import Arrays, digest, read_arrays, write_arrays
from splinestudy.data.cache import cache_path, cached
from splinestudy.data.catalogue import ENTRIES
from splinestudy.data.obtain import verify
from splinestudy.data.sources import Source


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
