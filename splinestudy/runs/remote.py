"""A store at any address that fsspec knows, such as ``s3://bucket/study``: objects there, a working copy here.

Runs are computed in a folder of this machine's cache. What a run needs is fetched before, what it made is sent after,
its record last; its checkpoint is sent while it runs, with every sign of life. So

* a record at the address has all that belongs to it there as well;
* a record that was not sent counts for nothing, and its run is computed again: the address is the truth;
* a run whose machine goes away is taken over after :data:`splinestudy.caches.LEASE` seconds, from its last checkpoint;
* what arrives damaged is fetched once more, then set aside at the address as ``.damaged``, and computed anew.

No run is computed by two machines at once, as long as the backend creates files exclusively (local, memory and S3 do)
and no process is silent for longer than a lease and then goes on; should one, both write the same record.
"""

import contextlib
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
from filelock import Timeout

from splinelib.errors import FileError, SettingError, SplineError
from splinelib.files import atomic_path, sha256_of
from splinestudy import caches
from splinestudy.runs.records import Record, Settings
from splinestudy.runs.store import Content, RecordStore

_POLL = 1.0  # seconds between looks at a lease that is waited for


def open_store(address: str | Path) -> RecordStore:
    """The store in a folder, or at an address with ``://``.

    >>> open_store("runs").root
    PosixPath('runs')
    >>> open_store("memory://runs").address
    'memory://runs'
    """
    if not str(address):
        raise SettingError("store is '': name a folder, or an address")
    return RemoteStore(str(address)) if "://" in str(address) else RecordStore(address)


class RemoteStore(RecordStore):
    """A store at an address of fsspec (see the module's docstring).

    Args:
        address: for example ``s3://bucket/study``; credentials and server are those of the backend's own settings.
        root: the working copy; by default a folder in ``$SPLINELIB_MIRROR`` or the user's cache.

    Raises :class:`FileError` where a backend is not installed or a server does not answer.
    """

    def __init__(self, address: str, root: Path | None = None) -> None:
        name = sha256_of(address.encode())[:16]
        super().__init__(root or caches.cache_dir("SPLINELIB_MIRROR", "mirror") / name)
        self.address = address
        with _errors(address):  # what others write is to be seen at once
            self._files, self._base = fsspec.core.url_to_fs(address, use_listings_cache=False)
            with contextlib.suppress(
                FileNotFoundError
            ):  # a new store; whether one is there, some backends say of
                self._files.ls(self._base, detail=False)  # a server that does not answer, too

    def holds(self, path: Path) -> bool:
        """Whether the address has what ``path`` of the working copy stands for."""
        with _errors(self.address):
            return self._files.exists(self._name(path))

    def load(self, run: Settings) -> Record | None:
        """As :meth:`RecordStore.load`, of a record that the address has."""
        return super().load(run) if self.holds(self.path(run)) else None

    def save(self, run: Settings, results: dict[str, Any], provenance: dict[str, Any]) -> Record:
        """As :meth:`RecordStore.save`; weights and moments of the run are sent first."""
        record = super().save(run, results, provenance)
        for folder in ("weights", "moments"):
            for path in (self.root / folder).glob(f"{record.key}[.-]*pt"):
                self._send(path)
        self._send(self.path(run))
        if self.holds(checkpoint := self.checkpoint_path(run)):
            with _errors(self.address):
                self._files.rm_file(self._name(checkpoint))
        return record

    @contextlib.contextmanager
    def claim(self, run: Settings) -> Iterator[bool]:
        """As :meth:`RecordStore.claim`; the run goes on from the checkpoint that the address has."""
        with super().claim(run) as mine:
            if mine:
                self._fetch(self.checkpoint_path(run))
            yield mine

    @contextlib.contextmanager
    def leased(self, path: Path) -> Iterator[None]:
        """As :meth:`RecordStore.leased`; the file is fetched before and sent after."""
        with super().leased(path):
            self._fetch(path)
            yield
            self._send(path)

    def _paths(self, kind: str) -> Iterable[Path]:
        with _errors(self.address):
            names = self._files.glob(f"{self._base}/{kind}/*.json")
        return [self.root / kind / Path(name).name for name in names]

    def _lease(self, path: Path, working: Path) -> "ObjectLease":
        return ObjectLease(self._files, self._name(path), partial(self._send, working))

    def _sound(self, path: Path, read: Callable[[Path], Content]) -> Content | None:
        for _ in range(2):  # what is damaged here alone is fetched again
            if not path.exists():
                self._fetch(path)
            content = super()._sound(path, read)
            if content is not None or not self.holds(path):
                return content
        with _errors(self.address):
            self._files.mv(self._name(path), self._name(path.with_suffix(".damaged")))
        return None

    def _name(self, path: Path) -> str:
        return f"{self._base}/{path.relative_to(self.root).as_posix()}"

    def _fetch(self, path: Path) -> None:
        if self.holds(path):
            with atomic_path(path) as temporary, _errors(self.address):
                self._files.get_file(self._name(path), str(temporary))

    def _send(self, path: Path) -> None:
        if path.exists():
            with _errors(self.address):
                self._files.makedirs(self._files._parent(self._name(path)), exist_ok=True)
                self._files.put_file(str(path), self._name(path))


class ObjectLease:
    """A lease as objects ``NAME.0``, ``NAME.1``, ...: the last in the row is held, or was until its holder went silent.

    Whoever sees one without a sign of life for :data:`splinestudy.caches.LEASE` seconds may create the next, which the
    backend allows to one alone. To release one is to delete them all.

    Args:
        files: file system of fsspec.
        name: of the lease there.
        beat: called with every sign of life.
    """

    def __init__(self, files: Any, name: str, beat: Callable[[], None] = lambda: None) -> None:
        self._files, self._name, self._beat = files, name, beat
        self._seen: dict[int, tuple[bytes, float]] = {}  # what was read, and when it was new
        self._number, self._ended = 0, threading.Event()

    def acquire(self, timeout: float | None = None) -> None:
        """Take the lease. Raises ``filelock.Timeout`` if others hold it for so many seconds; None waits for ever."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self._taken():
            if end is not None and time.monotonic() >= end:
                raise Timeout(self._name)
            time.sleep(_POLL)
        self._ended = threading.Event()
        threading.Thread(target=self._live, args=(self._ended,), daemon=True).start()

    def give_sign(self) -> None:
        """Say that its holder lives."""
        with _errors(self._name):
            self._files.pipe_file(f"{self._name}.{self._number}", _sign())

    def release(self) -> None:
        """Give it back."""
        self._ended.set()
        for number in range(self._number + 1):
            with contextlib.suppress(FileNotFoundError), _errors(self._name):
                self._files.rm_file(f"{self._name}.{number}")

    def _taken(self) -> bool:
        number = 0
        with _errors(self._name):
            while (content := self._read(number)) is not None:
                before, since = self._seen.get(number, (None, 0.0))
                if content != before:
                    self._seen[number] = content, time.monotonic()
                    return False
                if time.monotonic() - since < caches.LEASE:
                    return False
                number += 1
            self._files.makedirs(self._files._parent(self._name), exist_ok=True)
            try:
                self._files.pipe_file(f"{self._name}.{number}", _sign(), mode="create")
            except FileExistsError:
                return False
        self._number = number
        return True

    def _read(self, number: int) -> bytes | None:
        try:
            return self._files.cat_file(f"{self._name}.{number}")
        except FileNotFoundError:
            return None

    def _live(self, ended: threading.Event) -> None:
        """Give signs of life until ``ended``; one that does not get through is followed by the next."""
        while not ended.wait(caches.LEASE / 3):
            with contextlib.suppress(FileError):
                self._beat()
                if not ended.is_set():
                    self.give_sign()


def _sign() -> bytes:
    """What no other sign of life says."""
    return f"{platform.node()} {os.getpid()} {uuid.uuid4().hex}\n".encode()


@contextlib.contextmanager
def _errors(address: str) -> Iterator[None]:
    """Turn whatever a backend raises into a :class:`FileError` that names the address and the remedy."""
    try:
        yield
    except (SplineError, FileNotFoundError, FileExistsError):
        raise
    except Exception as error:  # each backend has its own
        raise FileError(
            f"{address} cannot be reached ({type(error).__name__}: {error}): check address, server and rights, and run "
            "again"
        ) from error
