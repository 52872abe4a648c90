"""Compiled code is not used after another file than its own has changed."""

import os
import subprocess
import sys

import numba
import pytest

from splinelib.partition.engine.stale import cache_folder, drop_stale


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A folder with a source, and a file that numba might have kept of its functions."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    source = tmp_path / "package" / "__init__.py"
    source.parent.mkdir()
    source.write_text("x = 1")
    drop_stale(source.parent, [source])
    (mark,) = (tmp_path / "cache").rglob("*.sha256")
    compiled = mark.with_name("kernel-1.py311.nbi")
    compiled.write_text("compiled")
    return source, compiled


def test_compiled_code_stays_while_the_sources_do(package):
    source, compiled = package
    drop_stale(source.parent, [source])
    assert compiled.exists()


def test_compiled_code_goes_when_a_source_changes(package):
    source, compiled = package
    source.write_text("x = 2")
    drop_stale(source.parent, [source])
    assert not compiled.exists()


def test_where_nothing_may_be_deleted_nothing_is(package, monkeypatch):
    source, compiled = package
    source.write_text("x = 2")

    def refuse(*_, **__):
        raise PermissionError

    monkeypatch.setattr(type(compiled), "unlink", refuse)
    drop_stale(source.parent, [source])
    assert compiled.exists()


def test_where_nothing_may_be_written_nothing_is_kept(package, monkeypatch):
    source, _ = package
    monkeypatch.setattr(numba.core.caching.CacheImpl, "_locator_classes", [])
    assert cache_folder(source.parent) is None
    drop_stale(source.parent, [source])


def test_an_edited_helper_reaches_a_cached_kernel(tmp_path):
    """What numba does not see by itself: the kernel's own file is as it was."""
    package = tmp_path / "edited"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from pathlib import Path\nfrom splinelib.partition.engine.stale import drop_stale\n"
        "drop_stale(Path(__file__).parent, Path(__file__).parent.glob('*.py'))\n"
    )
    (package / "kernel.py").write_text(
        "from numba import njit\nfrom edited.helper import helper\n"
        "@njit(cache=True)\ndef kernel():\n    return helper()\n"
    )
    for value in (1, 2):
        (package / "helper.py").write_text(
            f"from numba import njit\n@njit\ndef helper():\n    return {value}\n"
        )
        found = subprocess.run(
            [sys.executable, "-c", "from edited.kernel import kernel; print(kernel())"],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        )
        assert found.stdout.split() == [str(value)]
