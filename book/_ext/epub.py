"""The book as EPUB: mathematics that readers draw without scripts, and pages that are well-formed.

MathJax, which draws the web pages, turns their TeX into MathML, so both understand the same commands; a
browser runs it: chromium. Sphinx takes pages to be XML as they are, but outputs of cells and extensions
write HTML, link to files that an EPUB has not, and use ids twice. Here they are mended.
"""

from __future__ import annotations

import html
import re
import shutil
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup, Tag
from docutils import nodes
from playwright.sync_api import Page, sync_playwright
from sphinx.application import Sphinx
from sphinx.builders.epub3 import Epub3Builder
from sphinx.config import Config
from sphinx.errors import ExtensionError
from sphinx.locale import _

MATHJAX = Path(__file__).parents[1] / "_static" / "mathjax" / "tex-mml-chtml.js"
CONVERT = "([tex, display]) => MathJax.tex2mml(tex, {display})"
BLOCKS = ("div", "dl", "details", "figure", "ol", "p", "pre", "section", "table", "ul")
ITEM = re.compile(r'(<item [^>]*href="([^"]+\.xhtml)"[^>]*?)( ?/>)')
OLD = ("align", "border", "halign", "valign")  # attributes that HTML has left to styles


class Converter:
    """MathJax in a browser, started with the first formula."""

    def __init__(self) -> None:
        self._page: Page | None = None

    def start(self) -> Page:
        if self._page is None:
            chromium = shutil.which("chromium")
            if chromium is None:
                raise ExtensionError(
                    "the EPUB needs chromium, which turns its mathematics to MathML"
                )
            self._playwright = sync_playwright().start()
            self._browser = self._playwright.chromium.launch(executable_path=chromium)
            self._page = self._browser.new_page()
            self._page.add_script_tag(path=MATHJAX)
            self._page.evaluate("MathJax.startup.promise")
        return self._page

    def __call__(self, tex: str, *, display: bool) -> str:
        """MathML of a formula, on one line.

        Raises
        ------
        ExtensionError
            For TeX that MathJax does not understand, naming it.
        """
        mathml = str(self.start().evaluate(CONVERT, [tex, display]))
        if "<merror" in mathml or 'mathcolor="red"' in mathml:
            raise ExtensionError(f"no mathematics: {tex}")
        lines = (line.strip() for line in mathml.splitlines())
        return "".join(lines).replace("<math ", f'<math alttext="{html.escape(tex.strip())}" ', 1)

    def stop(self, *_: object) -> None:
        if self._page is not None:
            self._browser.close()
            self._playwright.stop()
            self._page = None


convert = Converter()


def inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(convert(node.astext(), display=False))
    raise nodes.SkipNode


def block(translator: Any, node: nodes.math_block) -> None:
    tex = node.astext()
    if not node.get("nowrap") and r"\\" in tex and r"\begin" not in tex:
        tex = rf"\begin{{split}}{tex}\end{{split}}"  # as Sphinx does for MathJax
    translator.body.append(translator.starttag(node, "div", CLASS="math"))
    if node["number"]:
        number = f"({node['number']})"
        translator.body.append(f'<span class="eqno">{number}')
        translator.add_permalink_ref(node, _("Permalink to this equation"))
        translator.body.append("</span>")
    translator.body.append(convert(tex, display=True) + "</div>\n")
    raise nodes.SkipNode


def mend(page: str, *, beside: Path) -> str:
    """A page as XML with nothing that is not in the book.

    Parameters
    ----------
    page : HTML or XHTML
    beside : folder of the page, against which links to styles are looked up
    """
    soup = BeautifulSoup(page, "html.parser")
    for needless in soup(["script", "style"]):
        needless.decompose()
    for link in soup("link"):
        if not (beside / str(link["href"])).exists():
            link.decompose()
    for repeated in soup("meta", attrs={"name": "viewport"})[1:]:
        repeated.decompose()
    ids = Counter(str(tag["id"]) for tag in soup(id=True))
    for tag in soup(True):
        if ids[str(tag.get("id"))] > 1:  # of extensions; no link leads there
            del tag["id"]
        if str(tag.get("role", "")).startswith("doc-"):
            del tag["role"]
        for name in OLD:
            del tag[name]
    for link in soup("a", href=True):
        target = re.split("[#?]", str(link["href"]))[0]
        if target and ":" not in target and not (beside / target).exists():
            link.unwrap()  # to a page of the web pages alone
    for svg in soup("svg"):  # arrows of what can be unfolded, which readers draw themselves
        svg.decompose()
    for name in ("p", "summary"):
        for outer in soup(name):
            within = outer.find(BLOCKS)
            if isinstance(within, Tag):
                _lay_out(outer)
    return soup.decode(formatter="minimal")


def _lay_out(outer: Tag) -> None:
    """Blocks may not stand in a paragraph or in the line that one unfolds by."""
    if outer.name == "p":
        outer.name = "div"
        return
    inner = [each for each in outer(BLOCKS) if isinstance(each, Tag)]
    for place, each in enumerate(inner):
        if place:  # the same once more, for when it is unfolded: a script would show one of them
            each.decompose()
        else:
            each.name = "span"


class Builder(Epub3Builder):
    """Sphinx's own, with pages mended before they are packed."""

    def build_content(self) -> None:
        super().build_content()
        with_math = set()
        for path in sorted(Path(self.outdir).rglob("*.xhtml")):
            page = mend(path.read_text(), beside=path.parent)
            path.write_text(page)
            if "<math " in page:
                with_math.add(path.relative_to(self.outdir).as_posix())

        def declared(item: re.Match[str]) -> str:
            return item[1] + (' properties="mathml"' if item[2] in with_math else "") + item[3]

        content = Path(self.outdir) / "content.opf"
        content.write_text(ITEM.sub(declared, content.read_text()))

    def toc_metadata(self, level: int, navpoints: list[Any]) -> dict[str, Any]:
        """Sphinx names the book by two different numbers."""
        return super().toc_metadata(level, navpoints) | {"uid": self.config.epub_identifier}


def of_this_version(app: Sphinx, config: Config) -> None:
    config.version = config.release = version("madcluster")
    config.project = str(config.html_title)
    config.epub_cover = tuple(config.epub_cover)  # YAML has lists alone


def without_scripts(app: Sphinx) -> None:
    """Scripts and indices of the web pages stay out; static is what lies beside the cover."""
    if app.builder.name == "epub":
        app.config.html_static_path = ["book/_epub"]
        app.config.html_domain_indices = False


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_builder(Builder, override=True)
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    app.add_config_value("epub_math_renderer", "mathml", "env")
    app.connect("config-inited", of_this_version, priority=100)
    app.connect("builder-inited", without_scripts)
    app.connect("build-finished", convert.stop)
    return {"parallel_read_safe": True, "parallel_write_safe": False}
