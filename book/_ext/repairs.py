"""Small repairs that make pages valid: plain-text docstrings, short names in them, and ids of proofs."""

import pkgutil
import re
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

# Kept as they are: ``literals``, :role:`targets`, *emphasis*, and the star of a list item.
KEPT = re.compile(r"``.+?``|:[\w:]+:`[^`]+`|\*\w[^*]*\*|^\s*\* ")
SPECIAL = re.compile(r"[|*]|(?<=\w)_(?=[\s.,;:)]|$)")


def escape_line(line: str) -> str:
    """``line`` with bars, lone stars and trailing underscores escaped: |x| is a norm here, not a substitution."""
    out, end = [], 0
    for kept in KEPT.finditer(line):
        out += [SPECIAL.sub(r"\\\g<0>", line[end : kept.start()]), kept[0]]
        end = kept.end()
    return "".join(out) + SPECIAL.sub(r"\\\g<0>", line[end:])


def escape_docstring(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are written for the reader of the code, who sees them unrendered."""
    if what in ("data", "attribute") and lines:
        lines[0] = f": {lines[0]}"  # an empty type: napoleon would take the words before a colon for one
    in_code = in_example = False
    for index, line in enumerate(lines):
        in_example = bool(line.strip()) and (in_example or line.lstrip().startswith(">>> "))
        if line.strip() and not line.startswith((" " * 4, "\t")):
            in_code = False
        if not in_code and not in_example:
            lines[index] = escape_line(line)
        in_code = in_code or line.rstrip().endswith("::")


def resolve_short_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Element
) -> nodes.Element | None:
    """Find ``SettingError`` or ``splinelib.prune`` where the one object of that name is documented.

    What exists but is not documented, such as a type in a signature, stays plain text; a misspelt name is left to fail.
    """
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py" or not ("." not in target or target.startswith("splinelib.")):
        return None
    last = target.rsplit(".", 1)[-1]
    objects = env.get_domain("py").objects
    found = [name for name in objects if name.endswith(f".{last}") and not objects[name].aliased]
    if len(found) != 1:
        return content if _exists(target) else None
    entry = objects[found[0]]
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, content, found[0])


def _exists(name: str) -> bool:
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError):
        return False
    return True


def number_repeated_ids(app: Sphinx, doctree: nodes.document) -> None:
    """sphinx-proof gives every proof on a page the same two ids."""
    count = 0
    for node in doctree.findall(nodes.Element):
        for repeated in {"proof", "proof-content"} & set(node.get("ids", [])):
            count += 1
            node["ids"][node["ids"].index(repeated)] = f"{repeated}-{count}"


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect to Sphinx; docstrings come before napoleon reads them."""
    app.connect("autodoc-process-docstring", escape_docstring, priority=400)
    app.connect("missing-reference", resolve_short_name)
    app.connect("doctree-read", number_repeated_ids)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
