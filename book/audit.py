"""Measure the built pages in a browser: python book/audit.py _build/html

For every page: what it weighs, when it first paints, and what axe-core finds that keeps somebody from
reading it, in light and in dark. The tables take the place of the marked paragraph in the built status
page. Needs chromium; without it the page says so.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import re
import shutil
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Request, Response, sync_playwright

HTML = Path(__file__).resolve().parents[1] / "_build" / "html"
CHROMIUM = shutil.which("chromium")
SERIOUS = ("critical", "serious")
PLACE = re.compile(r'<p id="audit">.*?</p>', re.DOTALL)


class Quiet(http.server.ThreadingHTTPServer):
    """A server that says nothing of visitors that leave early."""

    def handle_error(self, request: object, client_address: object) -> None:
        pass


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a local server of this folder."""
    server = Quiet(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def browsing() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # there is no network
            ],
        )
        yield browser
        browser.close()


def pages(folder: Path) -> list[str]:
    """Paths of all pages that a reader can come to."""
    of_book = sorted(path.relative_to(folder).as_posix() for path in folder.glob("book/*.html"))
    return [*of_book, "search.html", "genindex.html"]


class Visit:
    """A page that was opened, and what happened meanwhile.

    page : as playwright knows it
    outside : addresses of other hosts that were asked for
    faults : errors of scripts, of the console and of the server
    """

    def __init__(self, browser: Browser, address: str, *, dark: bool = False) -> None:
        self.page: Page = browser.new_page(viewport={"width": 1440, "height": 900})
        self.outside: list[str] = []
        self.faults: list[str] = []
        self.address = address
        self.theme = "dark" if dark else "light"
        self.page.add_init_script(
            f"for (const key of ['mode', 'theme'])"
            f" localStorage.getItem(key) || localStorage.setItem(key, '{self.theme}')"
        )
        self.page.on("request", self._asked)
        self.page.on("response", self._answered)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", lambda m: self.faults.append(m.text) if m.type == "error" else None)

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((self.address, "data:")):
            self.outside.append(request.url)

    def _answered(self, response: Response) -> None:
        if response.status >= 400:
            self.faults.append(f"{response.status} for {response.url}")

    def open(self, name: str) -> Page:
        """Go to a page and wait until its formulas are set."""
        self.page.goto(f"{self.address}/{name}", wait_until="load")
        self.page.wait_for_function(
            "() => !document.querySelector('.math') || "
            "(window.MathJax && MathJax.startup && MathJax.startup.promise)"
        )
        self.page.evaluate("() => window.MathJax && MathJax.startup && MathJax.startup.promise")
        return self.page

    def weight(self) -> int:
        """Bytes of the page and of all that it has read."""
        return self.page.evaluate(
            "() => ['navigation', 'resource'].flatMap(kind => performance.getEntriesByType(kind))"
            ".reduce((sum, entry) => sum + entry.encodedBodySize, 0)"
        )

    def first_paint(self) -> float:
        """Milliseconds from the request to the first text or image."""
        found = self.page.wait_for_function(
            "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
        )
        return found.json_value()

    def violations(self) -> list[tuple[str, str, str]]:
        """What axe-core finds: impact, rule, first place."""
        return [
            (rule["impact"], rule["id"], rule["nodes"][0]["html"][:120])
            for rule in Axe().run(self.page).response["violations"]
        ]


def audit(folder: Path) -> pd.DataFrame:
    """One row a page."""
    rows = []
    with serving(folder) as address, browsing() as browser:
        for name in pages(folder):
            row: dict[str, object] = {"page": name.removeprefix("book/").removesuffix(".html")}
            for theme in ("light", "dark"):
                visit = Visit(browser, address, dark=theme == "dark")
                visit.open(name)
                if theme == "light":
                    row["KiB"] = round(visit.weight() / 1024)
                    row["first paint ms"] = round(visit.first_paint())
                found = Counter(impact for impact, _, _ in visit.violations())
                row[f"serious, {theme}"] = sum(found[impact] for impact in SERIOUS)
                row[f"other, {theme}"] = found.total() - sum(found[impact] for impact in SERIOUS)
                row["outside requests"] = row.get("outside requests", 0) + len(visit.outside)
                visit.page.close()
            rows.append(row)
    return pd.DataFrame(rows)


def main() -> None:
    folder = Path(sys.argv[1])
    status = folder / "book" / "status.html"
    text = status.read_text()
    if not PLACE.search(text):
        sys.exit(f"{status} has no paragraph with id 'audit'")
    if CHROMIUM is None:
        table = "<p>There was no chromium where this book was built, so nothing was measured.</p>"
    else:
        found = audit(folder)
        print(found.to_string(index=False))
        html = found.to_html(index=False, border=0, classes="table")
        table = f'<div class="pst-scrollable-table-container" tabindex="0">{html}</div>'
    status.write_text(PLACE.sub(lambda _: table, text))


if __name__ == "__main__":
    main()
