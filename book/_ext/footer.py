"""The foot of every page: which version of the book it belongs to."""

from importlib.metadata import version
from typing import Any

from splinestudy.runs.provenance import source_commit


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("config-inited", _add_version)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _add_version(app: Any, config: Any) -> None:
    commit, clean = source_commit()
    state = "" if clean else ", with changes that are not committed"
    source = f", commit <code>{commit[:7]}</code>{state}" if commit else ""
    text = f"<p>Version {version('splinelib')}{source}.</p>"
    config.html_theme_options = {**config.html_theme_options, "extra_footer": text}
