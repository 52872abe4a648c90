"""Records: one JSON file for each finished run, named by the hash of the run's settings.

A store is a folder::

    <kind>/<key>.json      records
    weights/<key>.pt       trained weights that later runs start from
    moments/<key>-3.pt     a dense run after its first 3 epochs, with its optimiser
    checkpoints/<key>.pt   where an interrupted run goes on
    locks/<key>.lock       held while a process computes the run; freed by the system if the process dies

Several processes may share it. Records are written by atomic rename, carry a digest, and are set aside when damaged.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from filelock import FileLock, Timeout

from splinelib.errors import RecordError
from splinelib.files import atomic_path

SCHEMA = 1
_LOG = logging.getLogger(__name__)
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
    that those keep their names.
    """
    return json.loads(json.dumps(_plain(run)))


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if not dataclasses.is_dataclass(value):
        return value
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
    """A folder of records (see the module's docstring)."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

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

    def load(self, run: Settings) -> Record | None:
        """The run's record, or None if there is none. A damaged one is reported, set aside and counts as none."""
        path = self.path(run)
        return self._read(path) if path.exists() else None

    def load_all(self, kind: str) -> list[Record]:
        """All sound records of one kind, in the order of their keys; damaged ones are reported and set aside."""
        records = [self._read(path) for path in sorted((self.root / kind).glob("[!.]*.json"))]
        return [record for record in records if record is not None]

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
        path = self.root / "locks" / f"{run_key(run)}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def _read(self, path: Path) -> Record | None:
        try:
            return read_record(path)
        except RecordError as error:
            aside = path.with_suffix(".damaged")
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                os.replace(path, aside)
            _LOG.warning("%s; set aside as %s, the run will be computed anew", error, aside.name)
            return None


def read_record(path: Path) -> Record:
    """Read and check one record file. Raises :class:`RecordError` that says what is wrong with which file."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RecordError(f"record {path} cannot be read ({error})") from error
    if not isinstance(content, dict) or missing(content):
        raise RecordError(
            f"record {path} lacks {missing(content) if isinstance(content, dict) else 'everything'}"
        )
    if content["schema"] != SCHEMA:
        raise RecordError(f"record {path} has schema {content['schema']}, this version reads {SCHEMA}")
    if content["digest"] != _digest(content) or content["key"] != path.stem:
        raise RecordError(f"record {path} was altered: its digest or name does not fit its content")
    return _record(content)


def _record(content: dict[str, Any]) -> Record:
    return Record(**{name: content[name] for name in _FIELDS[1:]})


def missing(content: dict[str, Any]) -> list[str]:
    """Fields that a record must have and ``content`` lacks."""
    return sorted({*_FIELDS, "digest"} - content.keys())


def _digest(content: dict[str, Any]) -> str:
    held = {name: content[name] for name in _FIELDS}
    return hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()
