"""Records: one JSON file for each finished run, named by the hash of the run's settings."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from splinelib.errors import DamagedError, RecordError
from splinelib.files import file_errors

SCHEMA = 1
ALGORITHMS = {"compensate": {"least_squares": 2}}
"""Version of what a setting names, by field and value, where its meaning has changed since records were made with it.

Whoever changes what a value computes raises its number: the records made before lose their names, and are run again.
Least squares 2: a later layer is fitted to what the earlier ones, cut and fitted, now feed it.
"""
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
    if type(value) in _PLAIN:
        return value
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if not dataclasses.is_dataclass(value):
        return value.item() if isinstance(value, np.generic) else value
    held = {field: getattr(value, field.name) for field in dataclasses.fields(value)}
    return {
        field.name: _plain(own)
        for field, own in held.items()
        if not (field.metadata.get("later") and own == field.default)
    }


_PLAIN = {str, int, float, bool, type(None)}


def run_key(run: Settings) -> str:
    """Hash of the kind, the settings and the schema version: the run's name, 16 hexadecimal digits."""
    content = json.dumps([SCHEMA, run.kind, settings_dict(run)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


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
    if content["digest"] != content_digest(content) or content["key"] != path.stem:
        raise DamagedError(f"record {path} was altered: its digest or name does not fit its content")
    return record_of(content)


def record_of(content: dict[str, Any]) -> Record:
    """The record that the content of its file describes."""
    return Record(**{name: content[name] for name in _FIELDS[1:]})


def missing(content: dict[str, Any]) -> list[str]:
    """Fields that a record must have and ``content`` lacks."""
    return sorted({*_FIELDS, "digest"} - content.keys())


def content_digest(content: dict[str, Any]) -> str:
    """SHA-256 of a record file's content but the digest itself."""
    held = {name: content[name] for name in _FIELDS}
    return hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()
