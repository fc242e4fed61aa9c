"""JupyterLab as a reader uses it: open a chapter, run all cells, see the figures."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest
from audit import CHROMIUM, browsing

BOOK = Path(__file__).parents[2] / "book"
CHAPTERS = ("01_anomalies", "10_points")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="install chromium: apt-get install chromium"
)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Address and folder of a JupyterLab with the two chapters and settings of its own."""
    home = tmp_path_factory.mktemp("lab")
    folder = home / "book"
    folder.mkdir()
    for name in CHAPTERS:
        shutil.copy(BOOK / f"{name}.ipynb", folder)
    # cells out of sight are drawn too, so that the test can see their figures; no question on news
    settings = home / "settings" / "@jupyterlab"
    for name, content in {
        "notebook-extension/tracker": {"windowingMode": "none"},
        "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    }.items():
        (file := settings / f"{name}.jupyterlab-settings").parent.mkdir(parents=True)
        file.write_text(json.dumps(content))
    address = f"http://127.0.0.1:{(port := free_port())}"
    environment = os.environ | {
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "IPYTHONDIR": str(home / "ipython"),
        "OMP_NUM_THREADS": "1",
        "MADCLUSTER_PROGRESS": "0",
    }
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
            *(f"--ServerApp.port={port}", "--ServerApp.ip=127.0.0.1"),
            "--ServerApp.port_retries=0",
            # through files: two kernels that start at once can be given the same TCP port
            "--KernelManager.transport=ipc",
            f"--ServerApp.root_dir={folder}",
            *("--IdentityProvider.token=", "--PasswordIdentityProvider.hashed_password="),
            f"--LabApp.user_settings_dir={home / 'settings'}",
            f"--LabApp.workspaces_dir={home / 'workspaces'}",
            "--LabApp.news_url=None",
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
            "--LabApp.extension_manager=readonly",
        ],
        env=environment,
        stdout=(log := (home / "log").open("w")),
        stderr=subprocess.STDOUT,
    )
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{address}/api/status", timeout=2).close()
                break
            except OSError:
                assert server.poll() is None, (home / "log").read_text()
                time.sleep(0.5)
        else:
            pytest.fail((home / "log").read_text())
        yield address, folder
    finally:
        server.terminate()
        server.wait(30)
        log.close()


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_reader_runs_all_cells_and_sees_the_figures(lab, name):
    address, folder = lab
    path = folder / f"{name}.ipynb"
    cells = nbformat.read(path, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    figures = sum("figure" in cell.metadata.get("mystnb", {}) for cell in code)
    outside, errors = [], []
    with browsing() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.on(
            "request",
            lambda r: (
                None
                if r.url.startswith((address, "data:", "blob:"))
                or r.url.startswith(address.replace("http", "ws", 1))
                else outside.append(r.url)
            ),
        )
        page.on("pageerror", lambda error: errors.append(str(error)))
        # a workspace of its own, in which no other chapter is open
        page.goto(f"{address}/lab/workspaces/{name}/tree/{name}.ipynb")
        page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60_000)
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=60_000)
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        shown = f"document.querySelectorAll('.jp-CodeCell .jp-InputPrompt').length >= {len(code)}"
        numbered = (
            "[...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')]"
            r".every(prompt => /\[\d+\]/.test(prompt.textContent))"
        )
        page.wait_for_function(f"() => {shown} && {numbered}", timeout=120_000)
        pictures = "[...document.querySelectorAll('.jp-CodeCell .jp-OutputArea-output img')]"
        drawn = "e => e.naturalWidth > 100 && e.getBoundingClientRect().width > 100"
        page.wait_for_function(f"() => {pictures}.every({drawn})", timeout=60_000)
        assert page.evaluate(f"() => {pictures}.length") >= figures >= 3
        page.keyboard.press("Control+s")
        for _ in range(60):
            ran = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
            if all(cell.execution_count for cell in ran):
                break
            page.wait_for_timeout(500)
    assert [cell.execution_count for cell in ran] == list(range(1, len(code) + 1))
    kinds = {output.output_type for cell in ran for output in cell.outputs}
    assert "error" not in kinds
    assert outside == []
    assert errors == []
