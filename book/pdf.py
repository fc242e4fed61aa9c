"""Print the book as PDF: python book/pdf.py _build

The pages of the EPUB, which are whole and well-formed, become one page, and chromium prints it, with
bookmarks from the headings. MathJax draws the mathematics. The reference of the package is left out: it
is for looking things up, and the web pages and the EPUB have it.
"""

from __future__ import annotations

import posixpath
import re
import shutil
import sys
from pathlib import Path
from xml.etree import ElementTree

from audit import serving
from bs4 import BeautifulSoup
from playwright.sync_api import sync_playwright

LEFT_OUT = ("epub-cover", "nav", "api", "status")  # without .xhtml
OPF = "{http://www.idpf.org/2007/opf}"
TITLE = "Deep one-class anomaly detection"
SCRIPT = "../stage/book/_static/mathjax/tex-mml-chtml.js"
STYLE = """
body { font: 10.5pt/1.45 Georgia, "DejaVu Serif", serif; }
h1, h2, h3, h4 { font-family: "DejaVu Sans", sans-serif; line-height: 1.2; break-after: avoid; }
h1 { font-size: 20pt; } h2 { font-size: 14pt; } h3 { font-size: 11.5pt; }
article + article { break-before: page; }
pre, code { font-family: "DejaVu Sans Mono", monospace; }
pre { font-size: 7.5pt !important; background: #f5f5f5; padding: 4pt; }
table { font-size: 8pt !important; }
figure, table, div.math, img { break-inside: avoid; }
img.cover { display: block; width: 100%; height: 255mm; object-fit: contain; break-after: page; }
a { color: #0d56b8; text-decoration: none; }
img { max-width: 100% !important; max-height: 210mm; }
"""
MISSING = """
[...document.images].filter(e => !e.naturalWidth).map(e => e.src).concat(
  [...document.querySelectorAll("a[href^='#']")].map(e => e.getAttribute("href"))
    .filter(href => !document.getElementById(href.slice(1))))
"""
FOOTER = (
    '<div style="font-size: 7pt; width: 100%; text-align: center">'
    '<span class="pageNumber"></span> / <span class="totalPages"></span></div>'
)
MARGIN = {"top": "16mm", "bottom": "18mm", "left": "18mm", "right": "18mm"}


def spine(epub: Path) -> list[str]:
    """The pages of a built EPUB in their order, by their paths, without those that are left out."""
    content = ElementTree.parse(epub / "content.opf")
    paths = {item.get("id"): item.get("href", "") for item in content.iter(f"{OPF}item")}
    order = [paths[item.get("idref")] for item in content.iter(f"{OPF}itemref")]
    return [path for path in order if Path(path).stem not in LEFT_OUT]


def name_of(path: str) -> str:
    """What ids of a page begin with in the page of all."""
    return re.sub(r"\W+", "-", path.removesuffix(".xhtml"))


def one_page(epub: Path) -> str:
    """All pages of a built EPUB as one HTML page in a folder beside it, with links within the page."""
    pages = spine(epub)
    parts = []
    for path in pages:
        body = BeautifulSoup((epub / path).read_text(), "html.parser").body
        assert body is not None

        def within(target: str, page: str = path) -> str:
            return posixpath.normpath(posixpath.join(posixpath.dirname(page), target))

        for tag in body(id=True):
            tag["id"] = f"{name_of(path)}--{tag['id']}"
        for image in body("img"):
            image["src"] = f"../{epub.name}/{within(str(image['src']))}"
        for link in body("a", href=True):
            target, _, place = str(link["href"]).partition("#")
            to = within(target) if target else path
            if ":" in target:
                continue
            if to in pages:
                link["href"] = f"#{name_of(to)}" + (f"--{place}" if place else "")
            else:
                link.unwrap()
        content = body.decode_contents(formatter="minimal")
        parts.append(f'<article id="{name_of(path)}">{content}</article>')
    static = f"../{epub.name}/_static"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{TITLE}</title>
<link rel="stylesheet" href="{static}/pygments.css">
<link rel="stylesheet" href="{static}/reader.css">
<style>{STYLE}</style>
<script src="{SCRIPT}"></script>
</head>
<body>
<img class="cover" alt="Cover" src="{static}/cover.png">
{"".join(parts)}
</body>
</html>
"""


def print_page(build: Path, target: Path) -> int:
    """Print the EPUB below a folder of builds; number of its formulas.

    Raises
    ------
    RuntimeError
        Without chromium; where a picture is missing, a link leads nowhere or a formula is not drawn.
    """
    chromium = shutil.which("chromium")
    if chromium is None:
        raise RuntimeError("the PDF needs chromium, which prints it")
    (build / "print").mkdir(exist_ok=True)
    (build / "print" / "index.html").write_text(one_page(build / "epub"))
    with serving(build) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        page = browser.new_page(color_scheme="light")
        page.goto(f"{address}/print/index.html", wait_until="load", timeout=120_000)
        page.evaluate("MathJax.startup.promise")
        missing = page.evaluate(MISSING)
        if missing:
            raise RuntimeError(f"the page has no {missing}")
        left = page.locator("math:not(mjx-container *)").count()
        drawn = page.locator("mjx-container").count()
        if left or not drawn:
            raise RuntimeError(f"{left} formulas are not drawn, {drawn} are")
        page.pdf(
            path=target,
            format="A4",
            margin=MARGIN,
            outline=True,
            tagged=True,
            display_header_footer=True,
            header_template="<span></span>",
            footer_template=FOOTER,
            print_background=True,
        )
        browser.close()
    return int(drawn)


if __name__ == "__main__":
    folder = Path(sys.argv[1]).resolve()
    written = folder / "madcluster.pdf"
    print(f"{print_page(folder, written)} formulas, {written.stat().st_size / 2**20:.1f} MiB")
