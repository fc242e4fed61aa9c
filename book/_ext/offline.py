"""Keep the pages free of scripts from other hosts.

Jupyter Book always loads sphinx-thebe, whose scripts come from a CDN even where its button is off.
"""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx


def drop_outside_scripts(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object
) -> None:
    """Leave out scripts and styles of thebe and of any other host."""
    for kind in ("script_files", "css_files"):
        context[kind] = [
            entry
            for entry in context.get(kind, [])
            if "thebe" not in str(getattr(entry, "filename", entry) or "")
            and "thebe" not in str(getattr(entry, "attributes", {}).get("body", ""))
            and "//" not in str(getattr(entry, "filename", entry) or "")
        ]


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-page-context", drop_outside_scripts, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
