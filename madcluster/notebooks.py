"""Notebooks executed as they are, with other parameters."""

from __future__ import annotations

import html
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from madcluster.arguments import check_flag, check_one_of, check_seed, check_whole
from madcluster.files import whole_file

__all__ = ["check_parameters", "run_notebook", "write_page"]

INSTALL = 'a report needs more than the package: pip install "madcluster[report]"'
QUIET = logging.NullHandler()  # the same one at each call


def check_parameters(choices: Mapping[str, Sequence[str]] | None = None, /, **values: Any) -> None:
    """Look at the parameters of a notebook before anything of it takes time.

    Parameters
    ----------
    choices : mapping, optional
        What is allowed of those that are words.
    **values
        The parameters by name. SEED is an integer of at least 0, FAST and RENEW are True or False, one
        of `choices` is a word of them, and all others are positive integers.

    Raises
    ------
    ValueError
        For the first that is none of these; the message names it.

    Examples
    --------
    >>> check_parameters({"METRIC": ["f1", "auc"]}, SEED=0, EPOCHS=5, FAST=False, METRIC="f1")
    """
    for name, value in values.items():
        if choices and name in choices:
            check_one_of(name, value, choices[name])
        elif name in ("FAST", "RENEW"):
            check_flag(name, value)
        elif name == "SEED":
            check_seed(value)
        else:
            check_whole(name, value)


def run_notebook(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    parameters: Mapping[str, Any],
    *,
    cwd: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> None:
    """Execute a notebook by papermill, or raise what its cell raised.

    Its kernel talks through files: two that start at once can be given the same TCP port. What the
    kernel itself writes is shown only if it dies; one that is interrupted while it starts would say
    that its files are gone.

    Parameters
    ----------
    source, target : paths of notebooks
    parameters : values of its cell tagged "parameters"
    cwd : folder in which it runs, that of the process by default
    progress : show a bar

    Raises
    ------
    ImportError
        Without papermill and ipykernel: ``pip install "madcluster[report]"``.
    papermill.exceptions.PapermillExecutionError
        If a cell raises.
    nbclient.exceptions.DeadKernelError
        If the kernel dies, of a lack of memory for example.
    """
    try:
        import papermill
        from jupyter_client import AsyncKernelManager
        from nbclient.exceptions import DeadKernelError
    except ImportError as error:
        raise ImportError(f"{error}; {INSTALL}") from error

    # it also logs that a kernel died, which would reach the screen where nobody has set up logging
    logging.getLogger("papermill").addHandler(QUIET)
    with tempfile.TemporaryDirectory(prefix="kernel-") as folder, tempfile.TemporaryFile() as said:

        class SocketFileKernelManager(AsyncKernelManager):
            def __init__(self, *arguments: object, **keywords: object) -> None:
                super().__init__(*arguments, transport="ipc", ip=f"{folder}/ipc", **keywords)

            async def start_kernel(self, **keywords: object) -> None:  # type: ignore[override]
                await super().start_kernel(stderr=said, **keywords)

        try:
            papermill.execute_notebook(
                source,
                target,
                dict(parameters),
                cwd=cwd,
                progress_bar=progress,
                log_output=False,
                kernel_manager_class=SocketFileKernelManager,
            )
        except DeadKernelError as error:
            said.seek(0)
            error.add_note(said.read().decode(errors="replace"))
            raise


def write_page(
    notebook: str | os.PathLike[str], page: str | os.PathLike[str], *, title: str
) -> None:
    """Write an executed notebook as one HTML file without its code, whole or not at all.

    It holds its figures, and asks no other host for anything.

    Raises
    ------
    ImportError
        Without nbconvert: ``pip install "madcluster[report]"``.
    """
    try:
        from nbconvert import HTMLExporter
    except ImportError as error:
        raise ImportError(f"{error}; {INSTALL}") from error
    # the template without a frame: the usual one asks other hosts for its scripts
    exporter = HTMLExporter(
        template_name="basic",
        exclude_input=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    body, _ = exporter.from_filename(str(notebook))
    with whole_file(page) as part:
        part.write_text(PAGE.format(title=html.escape(title), body=body), encoding="utf-8")


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ max-width: 52rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff; }}
body {{ font: 16px/1.5 system-ui, sans-serif; }}
h1, h2 {{ line-height: 1.2; }}
img {{ max-width: 100%; height: auto; }}
a.anchor-link {{ display: none; }}
div.output_html, .jp-RenderedHTMLCommon, .jp-OutputArea-output {{ overflow-x: auto; }}
table {{ border: none; border-collapse: collapse; font-size: .85rem; margin: 1rem 0; }}
th, td {{ padding: .25rem .6rem; text-align: right; border: none; }}
tr {{ border-bottom: 1px solid #ddd; }}
pre, code {{ background: #f4f4f4; font-size: .85rem; }}
pre {{ padding: .6rem; overflow-x: auto; }}
</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""
