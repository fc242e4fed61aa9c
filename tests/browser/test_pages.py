"""The built pages in a real browser: nothing from outside, formulas set, solutions that unfold."""

import functools
import http.server
import shutil
import threading
from pathlib import Path

import pytest

HTML = Path(__file__).parents[2] / "_build" / "html"
CHROMIUM = shutil.which("chromium")

pytestmark = [
    pytest.mark.skipif(not HTML.is_dir(), reason="run `make book` first to test the pages"),
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium"),
]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def address():
    handler = functools.partial(Quiet, directory=str(HTML))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    """A page that refuses other hosts and remembers what it was asked for."""
    page = browser.new_page()
    page.outside, page.faults = [], []

    def route(request):
        if request.request.url.startswith((address, "data:")):
            request.continue_()
        else:
            page.outside.append(request.request.url)
            request.abort()

    page.route("**/*", route)
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    yield page
    page.close()


def test_no_page_asks_another_host_or_fails(page, address):
    names = sorted(path.name for path in (HTML / "book").glob("*.html"))
    assert len(names) > 10
    for name in names:
        page.goto(f"{address}/book/{name}", wait_until="load")
        assert (name, page.outside, page.faults) == (name, [], [])


def test_formulas_are_set(page, address):
    page.goto(f"{address}/book/05_one_cluster.html")
    page.wait_for_selector("mjx-container", timeout=20_000)
    assert page.locator("mjx-container").count() > 5
    assert page.locator("mjx-merror").count() == 0


def test_a_solution_unfolds(page, address):
    page.goto(f"{address}/book/05_one_cluster.html")
    solution = page.locator("div.solution").first
    inside = solution.locator("div.cell").first
    assert not inside.is_visible()
    solution.locator("button").first.click()
    inside.wait_for(state="visible", timeout=5_000)
