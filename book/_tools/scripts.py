"""Pages that are alive: a template, its scripts and its data in one piece of HTML that loads nothing."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def one_piece(template: Path, scripts: Sequence[str], data: Any) -> str:
    """The template with ``scripts`` of its folder, which may import from each other, and with ``data`` as JSON."""
    script = "\n".join(template.with_name(name).read_text() for name in scripts)
    script = re.sub(r"^import .*\n|^export (?=function|const)", "", script, flags=re.MULTILINE)
    # A "<" could end the script's element.
    written = json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    return template.read_text().replace("/*DATA*/", written).replace("/*SCRIPT*/", script)
