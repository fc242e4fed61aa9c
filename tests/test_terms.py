"""Words of the glossary: what a link to one says, and how sparingly pages use them."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from prose import texts, without_code

BOOK = Path(__file__).parents[1] / "book"
CHAPTERS = sorted(BOOK.glob("[01]*.ipynb"))
ROLE = re.compile(r"\{term\}`(?:[^`<]+<)?([^`>]+)>?`")
GLOSSARY = """
.. glossary::

   Event
     A run of rows. It has
     a start.

     More of it.

   Floor
   Ground
     What noise gets: little
"""


PAGE = """
Book
====

.. toctree::

   book/glossary
   book/other

An :term:`event <Event>`, a :term:`Ground`, a `link <https://arxiv.org>`_.
"""


def test_a_link_to_a_word_has_its_first_sentence_as_title(tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / "conf.py").write_text("extensions = ['terms']\nhtml_theme = 'basic'\n")
    (tmp_path / "index.rst").write_text(PAGE)
    (tmp_path / "book" / "other.rst").write_text("Other\n=====\n\nNone here.\n")
    (tmp_path / "book" / "glossary.rst").write_text("Words\n=====\n" + GLOSSARY)
    command = [sys.executable, "-m", "sphinx", "-q", "-W", ".", "out"]
    environment = {**os.environ, "PYTHONPATH": str(BOOK / "_ext")}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    html = (tmp_path / "out" / "index.html").read_text()
    titles = re.findall(r'title="([^"]*)"><span class="xref std std-term">(.*?)</span>', html)
    assert titles == [("A run of rows.", "event"), ("What noise gets: little", "Ground")]
    assert '#term-Event"' in html
    assert "std-term" not in (tmp_path / "out" / "book" / "other.html").read_text()


def words():
    """Of the glossary of the book."""
    text = (BOOK / "glossary.md").read_text().partition("```{glossary}\n")[2]
    return set(re.findall(r"^(\S.*)$", text.partition("```")[0], re.MULTILINE))


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_links_few_words_and_each_once(path):
    found = Counter(word for text in texts(path) for word in ROLE.findall(text))
    assert set(found) <= words()
    assert sum(found.values()) <= 8
    assert set(found.values()) <= {1}
    for text in texts(path):
        headings = re.findall(r"^#+ .*", without_code(text), re.MULTILINE)
        assert not [heading for heading in headings if "{term}" in heading]


def test_chapters_do_link_words():
    linked = [path.stem[:2] for path in CHAPTERS if any("{term}" in t for t in texts(path))]
    assert {f"{number:02}" for number in range(1, 12)} <= set(linked)
