"""The book in the hand: pages mended for an EPUB, one page of all for the PDF, and both as built."""

import re
import zipfile
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

import audit
import epub
import pdf
import pytest
from sphinx.errors import ExtensionError

BUILD = Path(__file__).parents[1] / "_build"
built = pytest.mark.skipif(
    not (BUILD / "html" / "madcluster.pdf").exists(), reason="build the pages: make book"
)
browser = pytest.mark.skipif(audit.CHROMIUM is None, reason="chromium is not installed")


@pytest.fixture
def convert():
    yield epub.convert
    epub.convert.stop()


@browser
def test_mathematics_becomes_mathml(convert):
    inline = convert(r"q < \nu", display=False)
    root = ElementTree.fromstring(inline)
    assert root.tag.endswith("math")
    assert root.get("alttext") == r"q < \nu"
    assert "".join(root.itertext()).split() == ["q<ν"]
    assert 'display="block"' in convert(r"\sum_t q_t", display=True)


@browser
@pytest.mark.parametrize("tex", [r"\unknowncommand", r"\frac{1", r"\begin{align} x"])
def test_tex_that_is_none_stops_the_build_and_is_named(convert, tex):
    with pytest.raises(ExtensionError, match="no mathematics: .*" + tex[1:6]):
        convert(tex, display=False)


def page(body, head=""):
    return f'<!DOCTYPE html><html xmlns="{XHTML}"><head>{head}</head><body>{body}</body></html>'


XHTML = "http://www.w3.org/1999/xhtml"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("<script>1 < 2</script><style scoped>p</style><p>a</p>", "<p>a</p>"),
        (
            '<div class="sliders"><p>a</p><script type="application/json">[1]</script></div>',
            '<div class="sliders"><p>a</p></div>',
        ),
        ('<p id="x">a</p><p id="x">b</p>', "<p>a</p><p>b</p>"),
        ('<p id="x">a</p><p id="y">b</p>', '<p id="x">a</p><p id="y">b</p>'),
        ('<table border="1"><tr><td valign="top">a</td></tr></table>', None),
        ("<p><ul><li>a</li></ul></p>", "<div><ul><li>a</li></ul></div>"),
        ("<summary><p>Show</p><p>Hide</p></summary>", "<summary><span>Show</span></summary>"),
        ('<a href="there.xhtml#b">a</a>', '<a href="there.xhtml#b">a</a>'),
        ('<a href="only_on_the_web.html">a</a>', "a"),
        ('<a href="https://arxiv.org">a</a><a href="#b">b</a>', None),
        ("<p>a&nbsp;b<br>c</p>", "<p>a\xa0b<br/>c</p>"),
        ('<div role="doc-biblioentry">a</div><div role="note">b</div>', None),
    ],
)
def test_a_page_is_mended(tmp_path, body, expected):
    (tmp_path / "there.xhtml").touch()
    mended = epub.mend(page(body), beside=tmp_path)
    root = ElementTree.fromstring(mended.removeprefix("<!DOCTYPE html>"))
    found = root.find(f"{{{XHTML}}}body")
    assert not {"border", "valign"} & {name for tag in found.iter() for name in tag.attrib}
    assert not [tag for tag in found.iter() if tag.get("role", "").startswith("doc-")]
    if expected is not None:
        assert expected in mended
    else:
        assert len(list(found.iter())) > 1


def test_styles_that_are_not_there_are_not_asked_for(tmp_path):
    (tmp_path / "there.css").touch()
    links = '<link rel="stylesheet" href="there.css"/><link rel="stylesheet" href="gone.css"/>'
    mended = epub.mend(page("", links), beside=tmp_path)
    assert "there.css" in mended
    assert "gone.css" not in mended


CONTENT = """<package xmlns="http://www.idpf.org/2007/opf"><manifest>
<item id="a" href="epub-cover.xhtml"/><item id="b" href="book/one.xhtml"/>
<item id="c" href="book/api.xhtml"/><item id="d" href="book/two.xhtml"/></manifest>
<spine><itemref idref="a"/><itemref idref="d"/><itemref idref="b"/><itemref idref="c"/></spine>
</package>"""


def test_all_pages_become_one_whose_links_stay_within(tmp_path):
    (tmp_path / "epub" / "book").mkdir(parents=True)
    (tmp_path / "epub" / "content.opf").write_text(CONTENT)
    one = (
        '<h1 id="x">One</h1><a href="two.xhtml#x">b</a><a href="#x">a</a><a href="api.xhtml">c</a>'
    )
    two = '<h1 id="x">Two</h1><a href="one.xhtml">a</a><img src="../_images/p.png"/>'
    for name, body in {"one": one, "two": two}.items():
        (tmp_path / "epub" / "book" / f"{name}.xhtml").write_text(page(body))
    assert pdf.spine(tmp_path / "epub") == ["book/two.xhtml", "book/one.xhtml"]
    whole = pdf.one_page(tmp_path / "epub")
    for part in (
        '<article id="book-two"><h1 id="book-two--x">Two</h1><a href="#book-one">a</a>',
        '<img src="../epub/_images/p.png"/>',
        '<h1 id="book-one--x">One</h1><a href="#book-two--x">b</a><a href="#book-one--x">a</a>c',
    ):
        assert part in whole


@built
def test_the_epub_is_whole():
    """What `epubcheck` asks for as far as it can be asked without it."""
    with zipfile.ZipFile(BUILD / "html" / "madcluster.epub") as book:
        names = book.namelist()
        assert names[0] == "mimetype"
        assert book.read("mimetype") == b"application/epub+zip"
        content = ElementTree.fromstring(book.read("content.opf"))
        items = {item.get("href"): item for item in content.iter(f"{pdf.OPF}item")}
        assert set(items) <= set(names)
        pages = [name for name in names if name.endswith(".xhtml")]
        assert len(pages) > 25
        for name in pages:
            text = book.read(name).decode()
            root = ElementTree.fromstring(text)  # well-formed
            assert "<script" not in text, name
            ids = [tag.get("id") for tag in root.iter() if tag.get("id")]
            assert len(ids) == len(set(ids)), name
            folder = Path(name).parent
            for tag in root.iter(f"{{{XHTML}}}img"):
                assert (folder / tag.get("src")).as_posix().replace("book/../", "") in names
            if name != "nav.xhtml":
                assert ("mathml" in items[name].get("properties", "")) == ("<math " in text), name
        nav = book.read("nav.xhtml").decode()
        assert nav.count("<li>") > 25
        assert f">{version('madcluster')}<" in book.read("content.opf").decode()


@built
def test_the_pdf_is_of_the_same_build():
    written = (BUILD / "html" / "madcluster.pdf").read_bytes()
    assert written.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type\s*/Page\b", written)) > 100
    assert len(written) < 40 * 2**20
