"""Which pages the audit measures again."""

import json

import audit
import pytest


@pytest.fixture
def folder(tmp_path):
    for name, content in {
        "book/one.html": '<img src="../_images/a.png"><a href="two.html#x">',
        "book/two.html": '<link href="../_static/s.css?v=1">',
        "search.html": "",
        "genindex.html": "",
        "_images/a.png": "picture",
        "_static/s.css": "style",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "again"),
    [
        ("book/two.html", {"book/two.html"}),
        ("_images/a.png", {"book/one.html"}),
        ("_static/s.css", {"book/one.html", "book/two.html", "search.html", "genindex.html"}),
    ],
)
def test_what_a_page_shows_is_measured_again(folder, changed, again):
    names = audit.pages(folder)
    before = audit.fingerprints(folder, names)
    assert audit.fingerprints(folder, names) == before
    (folder / changed).write_text("other")
    after = audit.fingerprints(folder, names)
    assert {name for name in names if before[name] != after[name]} == again


def measured(folder, names):
    """In place of a browser."""
    (folder / "asked.json").write_text(json.dumps(names))
    return [{"page": name, "theme": theme} for name in names for theme in ("light", "dark")]


def test_the_rest_is_kept(folder, monkeypatch):
    monkeypatch.setattr(audit, "measure", measured)
    monkeypatch.setattr(audit, "ProcessPoolExecutor", lambda jobs: Here())
    rows = audit.audit(folder, 1)
    assert [row["page"] for row in rows[::2]] == audit.pages(folder)
    (folder / "book/two.html").write_text("other")
    again = audit.audit(folder, 1, rows)
    assert json.loads((folder / "asked.json").read_text()) == ["book/two.html"]
    assert [(r["page"], r["theme"]) for r in again] == [(r["page"], r["theme"]) for r in rows]


class Here:
    """An executor of this process."""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def map(self, function, *arguments):
        return map(function, *arguments)
