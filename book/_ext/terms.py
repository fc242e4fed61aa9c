"""Let a word of the glossary say what it means where a page links to it.

Sphinx makes a link of ``{term}`Event```, and no more. The first sentence of the definition becomes the
title of the link. A pointer shows it, also in an EPUB, and the style sheet shows it to the keyboard.
"""

from __future__ import annotations

import re

from docutils import nodes
from sphinx.application import Sphinx

GLOSSARY = "book/glossary"


def first_sentence(definition: nodes.definition) -> str:
    """Of its first paragraph, on one line."""
    text = " ".join(next(iter(definition.findall(nodes.paragraph))).astext().split())
    return re.split(r"(?<=[.:]) (?=[A-Z])", text)[0]


def definitions(glossary: nodes.document) -> dict[str, str]:
    """First sentences of a glossary by the ids of their terms."""
    found = {}
    for item in glossary.findall(nodes.definition_list_item):
        sentence = first_sentence(next(iter(item.findall(nodes.definition))))
        for term in item.findall(nodes.term):
            found |= dict.fromkeys(term["ids"], sentence)
    return found


def add_titles(app: Sphinx, page: nodes.document, name: str) -> None:
    links = [
        link
        for link in page.findall(nodes.reference)
        if any("std-term" in inline["classes"] for inline in link.findall(nodes.inline))
    ]
    if not links:
        return
    known = definitions(app.env.get_doctree(GLOSSARY))
    for link in links:
        target = link.get("refid") or link["refuri"].partition("#")[2]
        link["reftitle"] = known[target]


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-resolved", add_titles)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
