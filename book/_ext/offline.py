"""Keep the pages free of scripts from other hosts, light, and readable by every program.

Jupyter Book always loads sphinx-thebe, whose scripts come from a CDN even where its button is off.
"""

from __future__ import annotations

import re
from pathlib import Path
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


# The theme loads its icons twice: as a font, and as a script of 1.4 MiB that draws the same ones.
# Nothing here uses the icons of brands. The roles that docutils gives to a bibliography do not fit.
NEEDLESS = re.compile(
    r'<script src="[^"]*/fontawesome/[^"]*/all\.min\.js[^"]*"></script>'
    r'|<link rel="preload"[^>]*/fa-brands-[^>]*>'
    r'|(?<=<div) role="list"(?= class="citation-list")'
    r'|(?<=") role="doc-biblioentry"'
)
# Tables of outputs look alike, styled ones too, and the keyboard reaches those that scroll.
TABLE = re.compile(r'<table (?:border="1" class="dataframe"|(?=id="T_))')


def mend(app: Sphinx, error: Exception | None) -> None:
    """Take out of the built pages what costs readers and gives them nothing; mend tables."""
    if error is None and app.builder.format == "html":
        for path in Path(app.outdir).rglob("*.html"):
            text = path.read_text()
            mended = TABLE.sub('<table class="dataframe" tabindex="0" ', NEEDLESS.sub("", text))
            if mended != text:
                path.write_text(mended)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-page-context", drop_outside_scripts, priority=900)
    app.connect("build-finished", mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
