"""Measure the built pages in a browser: python book/audit.py _build/html

For every page: what it weighs, when it first paints, what it asks other hosts for, and what axe-core
finds that keeps somebody from reading it, in light and in dark. All goes to `_build/audit.json`, which
the tests read. A table takes the place of the marked paragraph in the built status page. Needs
chromium; without it the page says so.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import http.server
import io
import json
import os
import re
import shutil
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pandas as pd
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Response, sync_playwright

from madcluster.files import whole_file

HTML = Path(__file__).resolve().parents[1] / "_build" / "html"
CHROMIUM = shutil.which("chromium")
SERIOUS = ("critical", "serious")
PLACE = re.compile(r'<(p|div) id="audit">.*?</\1>(?=\s*</section>)', re.DOTALL)


class Quiet(http.server.ThreadingHTTPServer):
    """A server that says nothing of visitors that leave early."""

    def handle_error(self, request: object, client_address: object) -> None:
        pass


class Handler(http.server.SimpleHTTPRequestHandler):
    """Sends text compressed, as hosts of web pages do."""

    def send_head(self) -> io.BytesIO | BinaryIO | None:
        path = Path(self.translate_path(self.path))
        if path.suffix not in (".html", ".js", ".css", ".svg", ".json") or not path.is_file():
            return super().send_head()
        content = gzip.compress(path.read_bytes(), 6)
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(path))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return io.BytesIO(content)

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
        self.page.on("console", self._logged)

    def _logged(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.faults.append(message.text)

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
        """Bytes of the page and of all that it reads, down to its end."""
        shown = "[...document.images].filter(image => image.offsetParent)"  # not of the other theme
        self.page.evaluate(f"() => {shown}.forEach(image => {{ image.loading = 'eager'; }})")
        self.page.wait_for_function(f"() => {shown}.every(image => image.complete)")
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
        options: dict[str, object] = {"resultTypes": ["violations"]}
        if self.theme == "dark":  # the same page in other colors
            options["runOnly"] = ["color-contrast", "link-in-text-block"]
        return [
            (rule["impact"], rule["id"], rule["nodes"][0]["html"][:200])
            for rule in Axe().run(self.page, options=options).response["violations"]
        ]


REFERENCE = re.compile(r'(?:src|href)="([^"#?]+)')


def fingerprints(folder: Path, names: list[str]) -> dict[str, str]:
    """Page → a hash of all that its measurements depend on: its files, and this one."""
    own = hashlib.sha256(Path(__file__).read_bytes())
    for path in sorted((folder / "_static").rglob("*")):
        if path.is_file():
            own.update(path.read_bytes())
    found = {}
    for name in names:
        page = folder / name
        of_page = own.copy()
        of_page.update(page.read_bytes())
        for reference in sorted(set(REFERENCE.findall(page.read_text(encoding="utf-8")))):
            target = (page.parent / reference).resolve()
            if target.suffix != ".html" and target.is_file() and folder in target.parents:
                of_page.update(target.read_bytes())
        found[name] = of_page.hexdigest()
    return found


def measure(folder: Path, names: list[str]) -> list[dict[str, object]]:
    """What there is to say of some pages, in each theme."""
    rows: list[dict[str, object]] = []
    with serving(folder) as address, browsing() as browser:
        for name in names:
            for theme in ("light", "dark"):
                for _ in range(3):  # a busy machine is not the page's fault
                    visit = Visit(browser, address, dark=theme == "dark")
                    visit.open(name)
                    paint = visit.first_paint()
                    if paint <= 1500:
                        break
                rows.append(
                    {
                        "page": name,
                        "theme": theme,
                        "bytes": visit.weight(),
                        "first paint ms": round(paint),
                        "outside": list(visit.outside),  # before axe, which asks for files itself
                        "faults": list(visit.faults),
                        "violations": visit.violations(),
                    }
                )
                visit.page.close()
    return rows


def audit(
    folder: Path, jobs: int, before: list[dict[str, object]] | None = None
) -> list[dict[str, object]]:
    """Rows of all pages; those of `before` are kept for pages that have not changed."""
    names = pages(folder)
    keys = fingerprints(folder, names)
    rows = [row for row in before or [] if keys.get(str(row["page"])) == row.get("key")]
    kept = {row["page"] for row in rows}
    todo = [name for name in names if name not in kept]
    print(f"{len(kept)} of {len(names)} pages are as they were measured")
    with ProcessPoolExecutor(jobs) as pool:
        parts = pool.map(measure, [folder] * jobs, [todo[i::jobs] for i in range(jobs)])
        rows += [{**row, "key": keys[str(row["page"])]} for part in parts for row in part]
    return sorted(rows, key=lambda row: (names.index(row["page"]), row["theme"]))


def as_table(rows: list[dict[str, object]]) -> pd.DataFrame:
    """One row a page."""
    found = pd.DataFrame(rows)
    serious = [sum(v[0] in SERIOUS for v in all_of) for all_of in found["violations"]]
    found = found.assign(
        page=[Path(name).stem for name in found["page"]],
        KiB=(found["bytes"] / 1024).round().astype(int),
        serious=serious,
        other=found["violations"].map(len) - serious,
        outside=found["outside"].map(len),
    )
    return found.groupby("page", sort=False).agg(
        **{
            "KiB": ("KiB", "max"),
            "first paint, ms": ("first paint ms", "max"),
            "serious findings": ("serious", "sum"),
            "other findings": ("other", "sum"),
            "outside requests": ("outside", "sum"),
        }
    )


def main() -> None:
    folder = Path(sys.argv[1]).resolve()
    status = folder / "book" / "status.html"
    text = status.read_text()
    if not PLACE.search(text):
        sys.exit(f"{status} has no paragraph with id 'audit'")
    if CHROMIUM is None:
        table = "<p>There was no chromium where this book was built, so nothing was measured.</p>"
    else:
        record = folder.parent / "audit.json"
        before = json.loads(record.read_text()) if record.exists() else []
        rows = audit(folder, min(2, os.cpu_count() or 1), before)
        with whole_file(record) as part:
            part.write_text(json.dumps(rows, indent=1))
        found = as_table(rows)
        print(found.to_string())
        for (impact, rule, place), n in Counter(
            tuple(finding) for row in rows for finding in row["violations"]
        ).most_common(20):
            print(f"{n:3d} x {impact}, {rule}: {' '.join(place.split())}")
        html = found.reset_index().to_html(index=False, border=0, classes="table")
        table = f'<div class="pst-scrollable-table-container" tabindex="0">{html}</div>'
    status.write_text(PLACE.sub(lambda _: f'<div id="audit">{table}</div>', text))


if __name__ == "__main__":
    main()
