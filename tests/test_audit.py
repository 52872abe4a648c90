"""The audit of locked packages, with stand-ins for what asks the package index: it never passes without a look."""

import os
import subprocess

import pytest

from splinestudy.runs.provenance import SOURCE

VULNERABLE = "echo jinja2 2.4.1 PYSEC-2014-8; exit 1"
SOUND = "echo No known vulnerabilities found; exit 0"
SILENT = "echo Dependency not found, could not be audited; exit 1"


@pytest.mark.parametrize(
    ("of_known", "of_lock", "status"),
    [
        (VULNERABLE, SOUND, 0),
        (VULNERABLE, VULNERABLE, 1),
        (VULNERABLE, SILENT, 1),
        (SOUND, SOUND, 2),
        (SILENT, SOUND, 2),
    ],
)
def test_an_audit_passes_only_if_it_could_have_failed(of_known, of_lock, status, tmp_path):
    tools = {
        "pip-audit": f'case "$*" in *known_vulnerable*) {of_known};; *requirements.lock*) {of_lock};; esac',
        "cyclonedx-py": "exit 0",
    }
    (tmp_path / "bin").mkdir()
    for name, lines in tools.items():
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/sh\n{lines}\n")
        path.chmod(0o755)
    done = subprocess.run(
        [SOURCE / ".ci" / "audit"],
        env={**os.environ, "AUDIT_TOOLS": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert ("no audit" in done.stderr) == (status == 2)
