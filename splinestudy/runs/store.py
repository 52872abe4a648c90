"""A store of records: the folder that runs are looked up in, computed for, and resume from.

A store is a folder::

    <kind>/<key>.json      records
    weights/<key>.pt       trained weights that later runs start from
    moments/<key>-3.pt     a dense run after its first 3 epochs, with its optimiser
    checkpoints/<key>.pt   where an interrupted run goes on
    locks/<key>.lease      held while a process computes the run (:func:`splinestudy.caches.lease`); one lies beside
                           a moment while a process writes it

Several processes and machines may share it. Files are written by atomic rename and carry name and digest. One whose
content fails them is set aside as ``.damaged`` in a store that runs are computed in, and what it held is computed anew;
one that cannot be read, for want of rights or file descriptors, is an error and stays where it is.
"""

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from filelock import Timeout

from splinelib.errors import DamagedError, FileError, RecordError, SettingError
from splinelib.files import atomic_path, file_errors, load_tensors, remove_temporaries, sound
from splinestudy.caches import lease
from splinestudy.runs.records import (
    SCHEMA,
    Record,
    Settings,
    content_digest,
    read_record,
    record_of,
    run_key,
    settings_dict,
)

Content = TypeVar("Content")


class RecordStore:
    """A folder of records (see the module's docstring).

    Args:
        root: the folder.
        readonly: the records are somebody else's: a damaged one is an error, and stays where it is.
    """

    def __init__(self, root: Path | str, readonly: bool = False) -> None:
        if "\0" in str(root):
            raise SettingError(f"store is {str(root)!r}: a path holds no NUL")
        self.root, self.readonly = Path(root).expanduser(), readonly
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
            if self.root.exists() and not self.root.is_dir():
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
            again = run.kind == "dense" and not self.holds(
                self.weights_path(run)
            )  # trained once more for them
            if mine and not again:
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
        content["digest"] = content_digest(content)
        with atomic_path(self.path(run)) as path:
            path.write_text(json.dumps(content, separators=(",", ":")) + "\n")
        return record_of(content)

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
