"""Records: one JSON file for each finished run, named by the hash of the run's settings.

A store is a folder::

    <kind>/<key>.json      records
    weights/<key>.pt       trained weights that later runs start from
    moments/<key>-3.pt     a dense run after its first 3 epochs, with its optimiser
    checkpoints/<key>.pt   where an interrupted run goes on
    locks/<key>.lease      held while a process computes the run (:func:`splinestudy.caches.lease`)

Several processes and machines may share it. Files are written by atomic rename and carry name and digest. One whose
content fails them is set aside as ``.damaged`` in a store that runs are computed in, and what it held is computed anew;
one that cannot be read, for want of rights or file descriptors, is an error and stays where it is.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
from filelock import Timeout

from splinelib.errors import DamagedError, FileError, RecordError, SettingError
from splinelib.files import atomic_path, file_errors, load_tensors, remove_temporaries, sound
from splinestudy.caches import lease

SCHEMA = 1
ALGORITHMS = {"compensate": {"least_squares": 2}}
"""Version of what a setting names, by field and value, where its meaning has changed since records were made with it.

Whoever changes what a value computes raises its number: the records made before lose their names, and are run again.
Least squares 2: a later layer is fitted to what the earlier ones, cut and fitted, now feed it.
"""
Content = TypeVar("Content")
_FIELDS = ("schema", "kind", "key", "settings", "results", "provenance")


class Settings(Protocol):
    """A frozen dataclass of JSON values (nested dataclasses and tuples allowed) that says all about one run."""

    kind: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Any]]


@dataclass(frozen=True)
class Record:
    """What one run measured.

    Attributes:
        kind: kind of the run, which is also its folder.
        key: hash of kind and settings, 16 hexadecimal digits.
        settings: the run's settings as JSON values.
        results: every measured value.
        provenance: profile, versions, hardware, commit, clean (tree), finished (ISO date), seconds.
    """

    kind: str
    key: str
    settings: dict[str, Any]
    results: dict[str, Any]
    provenance: dict[str, Any]


def settings_dict(run: Settings) -> dict[str, Any]:
    """The settings of ``run`` as JSON gives them back: tuples become lists.

    A field with ``metadata={"later": True}`` was added after records had been made. At its default it is left out, so
    that those keep their names. Where :data:`ALGORITHMS` has a version of what a field names, it stands beside.
    """
    plain = json.loads(json.dumps(_plain(run)))
    versions = {
        plain[field]: ALGORITHMS[field][plain[field]]
        for field in ALGORITHMS.keys() & plain.keys()
        if plain[field] in ALGORITHMS[field]
    }
    return plain | {"algorithms": versions} if versions else plain


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if not dataclasses.is_dataclass(value):
        return value.item() if isinstance(value, np.generic) else value
    fields = [
        field
        for field in dataclasses.fields(value)
        if not (field.metadata.get("later") and getattr(value, field.name) == field.default)
    ]
    return {field.name: _plain(getattr(value, field.name)) for field in fields}


def run_key(run: Settings) -> str:
    """Hash of the kind, the settings and the schema version: the run's name, 16 hexadecimal digits."""
    content = json.dumps([SCHEMA, run.kind, settings_dict(run)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


class RecordStore:
    """A folder of records (see the module's docstring).

    Args:
        root: the folder.
        readonly: the records are somebody else's: a damaged one is an error, and stays where it is.
    """

    def __init__(self, root: Path | str, readonly: bool = False) -> None:
        if "\0" in str(root):
            raise SettingError(f"store is {str(root)!r}: a path holds no NUL")
        self.root, self.readonly = Path(root), readonly
        self.address = str(self.root.absolute())  # by which another process finds it
        self._leases: dict[
            str, Any
        ] = {}  # kept, since a lease of a dead machine has to be watched for a while

    def path(self, run: Settings) -> Path:
        """File of the run's record, present or not."""
        return self.root / run.kind / f"{run_key(run)}.json"

    def weights_path(self, run: Settings) -> Path:
        """File of the run's trained weights."""
        return self.root / "weights" / f"{run_key(run)}.pt"

    def moment_path(self, run: Settings, epochs: int) -> Path:
        """File of the run's training as it stood after so many epochs."""
        return self.root / "moments" / f"{run_key(run)}-{epochs}.pt"

    def checkpoint_path(self, run: Settings) -> Path:
        """File that an interrupted run goes on from."""
        return self.root / "checkpoints" / f"{run_key(run)}.pt"

    def _lease_path(self, run: Settings) -> Path:
        return self.root / "locks" / f"{run_key(run)}.lease"

    def holds(self, path: Path) -> bool:
        """Whether the store has this file. Raises :class:`FileError` for a store that is a file, or cannot be read."""
        with file_errors(path, "read"):
            if self.root.is_file():
                raise FileError(f"store {self.root} is a file: name a folder")
            return path.exists()

    def load(self, run: Settings) -> Record | None:
        """The run's record, or None if there is none.

        Raises :class:`RecordError` for a record of another schema, :class:`FileError` for one that cannot be read.
        """
        record = self._sound(self.path(run), read_record)
        if record is not None and not self.readonly and self._lease_path(run).exists():
            self._tidy(run)
        return record

    def _tidy(self, run: Settings) -> None:
        """Delete what a process left that was killed when the record was there; one that lives keeps its own."""
        held = self._leases.get(run_key(run))
        if held is not None and held.is_locked:  # by this process
            return
        with (
            contextlib.suppress(FileError),
            self.claim(run) as mine,
        ):  # in a folder that may not be written, it stays
            if mine:
                self.checkpoint_path(run).unlink(missing_ok=True)

    def load_all(self, kind: str) -> list[Record]:
        """All records of one kind, in the order of their keys. Raises as :meth:`load` does."""
        if self.readonly:
            _note(f"{kind}/*.json")
        paths = sorted(self._paths(kind))
        found = [record for path in paths if (record := self._sound(path, read_record)) is not None]
        for record in found:
            if record.kind != kind:
                raise RecordError(
                    f"{self.root / kind / record.key}.json is of kind {record.kind!r}: move it there"
                )
        return found

    def load_tensors(
        self, path: Path, use: Callable[[dict[str, Any]], Any] | None = None
    ) -> dict[str, Any] | None:
        """Content of a file of weights, a checkpoint or a moment of this store; None where there is none.

        Where ``use`` of the content fails, as that of a network's state does which lacks a key, the file is damaged.
        """

        def read(file: Path) -> dict[str, Any]:
            content = load_tensors(file)
            try:
                if use is not None:
                    use(content)
            except (SettingError, RuntimeError, KeyError, TypeError, AttributeError) as error:
                raise DamagedError(f"{file} does not hold what it should ({str(error)[:200]})") from error
            return content

        return self._sound(path, read)

    def save(self, run: Settings, results: dict[str, Any], provenance: dict[str, Any]) -> Record:
        """Write the run's record. Raises :class:`RecordError` if ``results`` holds other than JSON values, or NaN."""
        held = Record(run.kind, run_key(run), settings_dict(run), results, provenance)
        try:
            content = json.loads(json.dumps({"schema": SCHEMA, **dataclasses.asdict(held)}, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise RecordError(
                f"results of {run} cannot be written ({error}): give finite JSON values"
            ) from error
        content["digest"] = _digest(content)
        with atomic_path(self.path(run)) as path:
            path.write_text(json.dumps(content, separators=(",", ":")) + "\n")
        return _record(content)

    @contextlib.contextmanager
    def claim(self, run: Settings) -> Iterator[bool]:
        """Yield True while this process alone may compute ``run``; False if another process is at it."""
        key = run_key(run)
        path = self._lease_path(run)
        lock = self._leases.setdefault(key, self._lease(path, self.checkpoint_path(run)))
        try:
            with file_errors(path, "written"):
                lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            for folder in (run.kind, "weights", "checkpoints"):
                remove_temporaries(self.root / folder, key)
            yield True
        finally:
            lock.release()

    @contextlib.contextmanager
    def leased(self, path: Path) -> Iterator[None]:
        """Within the block this process alone writes ``path``, a file of the store; others wait."""
        held = path.with_suffix(".lease")
        lock = self._lease(held, path)
        with file_errors(held, "written"):
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def held(self, run: Settings) -> bool:
        """Whether another process computes ``run`` now."""
        with self.claim(run) as mine:
            return not mine

    def _paths(self, kind: str) -> Iterable[Path]:
        """Files of all records of one kind."""
        return (self.root / kind).glob("[!.]*.json")

    def _lease(self, path: Path, working: Path) -> Any:
        """The lease ``path``, under which the file ``working`` is written."""
        return lease(path)

    def _sound(self, path: Path, read: Callable[[Path], Content]) -> Content | None:
        """What ``path`` holds; None where there is no such file, or it was damaged and is set aside."""
        if not self.readonly:
            return sound(read, path)
        _note(path.relative_to(self.root).as_posix())
        return read(path) if path.exists() else None


READS = "SPLINESTUDY_READS"
"""Variable with a file for the names of all that is asked of read-only stores, there or not: a chapter's inputs."""

_NOTED: set[str] = set()


def _note(name: str) -> None:
    if name not in _NOTED and (file := os.environ.get(READS)):
        _NOTED.add(name)
        with open(file, "a") as lines:
            lines.write(f"{name}\n")


def read_record(path: Path) -> Record:
    """Read and check one record file.

    Raises :class:`DamagedError` that says what is wrong with which file, :class:`RecordError` for another schema,
    :class:`FileError` where it cannot be read, ``FileNotFoundError`` where there is none.
    """
    with file_errors(path, "read"):
        text = path.read_bytes()
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"record {path} cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise DamagedError(f"record {path} lacks everything")
    if isinstance(content.get("schema"), int) and content["schema"] != SCHEMA:
        raise RecordError(
            f"record {path} has schema {content['schema']}, this version reads {SCHEMA}: use the version "
            "that wrote it, or another store"
        )
    if missing(content):
        raise DamagedError(f"record {path} lacks {missing(content)}")
    if content["digest"] != _digest(content) or content["key"] != path.stem:
        raise DamagedError(f"record {path} was altered: its digest or name does not fit its content")
    return _record(content)


def _record(content: dict[str, Any]) -> Record:
    return Record(**{name: content[name] for name in _FIELDS[1:]})


def missing(content: dict[str, Any]) -> list[str]:
    """Fields that a record must have and ``content`` lacks."""
    return sorted({*_FIELDS, "digest"} - content.keys())


def _digest(content: dict[str, Any]) -> str:
    held = {name: content[name] for name in _FIELDS}
    return hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()
