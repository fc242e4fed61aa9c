"""Buttons for Colab and Binder, where the build knows of a public repository.

On GitHub, CI sets GITHUB_REPOSITORY and GITHUB_REF_NAME. Elsewhere the pages have no such buttons: a
link that leads nowhere is worse than none. Every page can be downloaded as a notebook in any case.
"""

from __future__ import annotations

import os

from sphinx.application import Sphinx
from sphinx.config import Config


def add_buttons(app: Sphinx, config: Config) -> None:
    repository = os.environ.get("GITHUB_REPOSITORY")
    if not repository:
        return
    options = dict(config.html_theme_options)
    options |= {
        "repository_url": f"https://github.com/{repository}",
        "repository_branch": os.environ.get("GITHUB_REF_NAME") or "main",
        "launch_buttons": {
            "colab_url": "https://colab.research.google.com",
            "binderhub_url": "https://mybinder.org",
            "notebook_interface": "jupyterlab",
        },
    }
    config.html_theme_options = options  # type: ignore[attr-defined]


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("config-inited", add_buttons, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
