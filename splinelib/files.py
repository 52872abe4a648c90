"""Files that are either whole or absent, and hold what was written under their name: writing, reading, digests."""

import contextlib
import errno
import hashlib
import logging
import os
import pickle
import stat
import uuid
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch

from splinelib.errors import DamagedError, FileError, LimitError

Content = TypeVar("Content")
_LOG = logging.getLogger(__name__)
_REMEDIES = {
    "ENOSPC": "make room there",
    "EDQUOT": "make room there",
    "EFBIG": "let larger files be written there",
    "EROFS": "name a folder that can be written",
    "ENOENT": "name a folder that is there",
    "EACCES": "give yourself the right to, or name another folder",
    "EPERM": "give yourself the right to, or name another folder",
    "ENOTDIR": "a part of the path is a file: name a folder",
    "EEXIST": "a part of the path is a file: name a folder",
    "EISDIR": "it is a folder: move it away",
    "EMFILE": "allow more open files (ulimit -n), and run again",
    "ENFILE": "allow more open files (ulimit -n), and run again",
}


@contextlib.contextmanager
def file_errors(path: Path | str, what: str) -> Iterator[None]:
    """Within the block, turn an error of the operating system into a :class:`FileError` with file, cause and remedy.

    ``what`` says what cannot be done: read, renamed (where ``FileNotFoundError`` stays what it is) or written.
    """
    try:
        if what == "read":
            _check_plain(path, what)
        yield
    except OSError as error:
        if isinstance(error, FileError | TimeoutError):  # a lock's time-out is no fault
            raise
        if what != "written" and isinstance(error, FileNotFoundError | NotADirectoryError):
            raise FileNotFoundError(*error.args) from error
        name = os.strerror(error.errno) if error.errno else str(error)
        remedy = _REMEDIES.get(errno.errorcode.get(error.errno or 0, ""), "see to it, and run again")
        raise FileError(f"{path} cannot be {what} ({name}): {remedy}") from error


def _check_plain(path: Path | str, what: str) -> None:
    """Raise :class:`FileError` for a pipe, a socket or a device: reading may never end, writing would replace it."""
    mode = os.stat(path).st_mode if os.path.exists(path) else stat.S_IFREG
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise FileError(f"{path} cannot be {what}: it is no plain file, move it away")


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` on success, delete it on any exception.

    A reader sees the old file or the whole new one, never a part, also after the process is killed (what is then left
    behind, :func:`remove_temporaries` takes away). Raises :class:`FileError` where the file cannot be written.
    """
    if "\0" in str(path):
        raise FileError(f"{str(path)!r} cannot be written: a name holds no null byte")
    path = Path(path)
    if not path.name:
        raise FileError(f"{str(path)!r} cannot be written: it names a folder, give a file's name")
    # The suffix of the target stays last, since some writers (numpy, PIL) choose the format by it.
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.tmp{path.suffix}")
    with file_errors(path, "written"):
        _check_plain(path, "written")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def remove_temporaries(folder: Path, stem: str) -> None:
    """Delete what killed writers of ``folder``/``stem``.* left behind. For who alone may write that file."""
    for path in folder.glob(f".{stem}.????????.tmp*"):
        path.unlink(missing_ok=True)


def sha256_of(*chunks: bytes | memoryview) -> str:
    """Hexadecimal SHA-256 of the chunks, taken as one sequence of bytes."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def save_tensors(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain values, nested in dicts and lists, with the file's name and a digest inside."""
    held = {"name": path.stem, "digest": _digest(path.stem, content), "content": content}
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        try:
            torch.save(held, file)
        except RuntimeError as error:  # torch's own, about what a failed write of the file left undone
            if isinstance(error.__context__, OSError):
                raise error.__context__ from error
            raise


def load_tensors(path: Path) -> dict[str, Any]:
    """What :func:`save_tensors` wrote, on the CPU, read without unpickling anything but tensors and plain values.

    Raises :class:`DamagedError` where the content is not what was written under that name, :class:`FileError` where
    the file cannot be read, ``FileNotFoundError`` where there is none.
    """
    with file_errors(path, "read"):
        try:
            with zipfile.ZipFile(path) as archive:
                if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                    raise zipfile.BadZipFile("it is compressed, so that its size is unknown")
                if member := archive.testzip():
                    raise zipfile.BadZipFile(f"check sum of {member} is wrong")
            held = torch.load(path, map_location="cpu", weights_only=True)
        except (
            zipfile.BadZipFile,
            pickle.UnpicklingError,
            RuntimeError,
            ValueError,
            EOFError,
            LookupError,
        ) as error:
            if "memory" in str(error):  # the file is sound, as its check sums say
                raise LimitError(f"{path} does not fit memory ({error}): end other programs") from error
            raise DamagedError(f"{path} is damaged ({type(error).__name__}: {str(error)[:200]})") from error
    if not isinstance(held, dict):
        raise DamagedError(f"{path} holds a {type(held).__name__} where a dict was expected")
    if held.keys() != {"name", "digest", "content"}:
        raise DamagedError(f"{path} has no name and digest of its content: it was written by something else")
    if held["name"] != path.stem:
        raise DamagedError(f"{path} was written as {held['name']}: it belongs to another run")
    if held["digest"] != _digest(path.stem, held["content"]):
        raise DamagedError(f"{path} was altered: its digest does not fit its content")
    return held["content"]


def sound(read: Callable[[Path], Content], path: Path) -> Content | None:
    """``read(path)``; None where there is no such file, or it is damaged: then it is set aside as ``.damaged``."""
    try:
        return read(path)
    except FileNotFoundError:
        return None
    except DamagedError as error:
        aside = path.with_suffix(".damaged")
        with contextlib.suppress(FileNotFoundError), file_errors(path, "renamed"):  # another may be faster
            os.replace(path, aside)
        _LOG.warning("%s; set aside as %s, and computed anew", error, aside.name)
        return None


def _digest(*values: Any) -> str:
    return sha256_of(*_chunks(values))


def _chunks(value: Any) -> Iterator[bytes | memoryview]:
    """Everything that makes up a value, as bytes; lists and tuples are alike."""
    if isinstance(value, torch.Tensor):
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise DamagedError(f"a tensor of shape {tuple(value.shape)} is larger than what is held of it")
        yield f"{value.dtype} {tuple(value.shape)}\n".encode()
        yield value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
    elif isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else value
        yield f"{len(value)} {'of' if isinstance(value, dict) else 'in'}\n".encode()
        for item in items:
            yield from _chunks(item)
    else:
        yield f"{value!r}\n".encode()
