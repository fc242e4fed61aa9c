"""No number is typed into a sentence: the check itself, and the book under it."""

import nbformat
import pytest
from prose import PAGES, texts, typed_numbers


@pytest.mark.parametrize(
    "text",
    [
        "The head reaches 0.86.",
        "It ranks at .86 there.",
        "About 12 of the runs fell.",
        "A step is 46 × as fast, a pass 3 %.",
        "In 9 of 10 seeds it falls.",
        "Nine of ten seeds fall.",
        "It is four times faster.",
        "That is about half.",
        "The ratio is 4.6e-3.",
        "| the head | 0.86 |",
        "- a point\n- another with 17 rows",
        "Set `$A`, and it reaches 0.86. Then set `$B`.",
        "```{exercise}\n:label: ex-01-1\n\n*Predict.* It falls to 0.3.\n```",
        "<!-- stated: elsewhere -->\n\nA covered 17.\n\nAn uncovered 18.",
    ],
)
def test_a_typed_number_is_found(text):
    assert len(typed_numbers(text)) >= 1


def test_only_the_next_paragraph_is_covered():
    text = "<!-- stated: elsewhere -->\n\nA covered 17.\n\nAn uncovered 18."
    (found,) = typed_numbers(text)
    assert "'18'" in found


@pytest.mark.parametrize(
    "text",
    [
        "The head reaches {glue:text}`head:.2f`.",
        "In 2018 and 1999/2004, with torch 2.13.0 and Python 3.11.",
        "See chapters 3, 4 and 12, or [chapter 13](13_benchmark).",
        "Between 0 and 1, in [0, 1] or (0, 1).",
        "A window of `WINDOW = 100` rows, $d = 64$.",
        "$$\nL = 2.5\n$$",
        "```\n100 rows\n```",
        "They report 0.52 {cite:p}`madcluster2025`.",
        "<!-- stated: by definition -->\nA day has 1,440 minutes.",
        "A 1-NN on MSL's P-10 in the L2 norm.",
        "```{solution-start} ex-01-1\n:class: dropdown\n```",
        "1. First.\n2. Second (2).",
    ],
)
def test_what_is_named_glued_or_vouched_for_is_not(text):
    assert typed_numbers(text) == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_no_number_was_typed_by_hand(path):
    assert [fault for text in texts(path) for fault in typed_numbers(text)] == []


def test_a_number_typed_into_a_chapter_is_found(tmp_path):
    (path,) = [page for page in PAGES if page.stem == "01_anomalies"]
    notebook = nbformat.read(path, as_version=4)
    text = next(cell for cell in notebook.cells[1:] if cell.cell_type == "markdown")
    text.source += "\n\nIts average precision is 0.86."
    nbformat.write(notebook, tmp_path / path.name)
    found = [fault for text in texts(tmp_path / path.name) for fault in typed_numbers(text)]
    assert any("'0.86'" in fault for fault in found)
