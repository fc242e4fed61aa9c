"""The page of functions to copy: every block runs by itself and does what the package does."""

import importlib.util
import math
import re
import sys

import functions
import numpy as np
import pandas as pd
import pytest
import torch
from scripts import script

from madcluster import loss, metrics
from madcluster.heads import contrastive
from madcluster.models import dcdetector
from madcluster.study.results import read_result
from madcluster.study.statistics import interval

PAGE = functions.ROOT / "book" / "functions.md"
NAMES = [match[1].split(", ") for match in functions.PLACE.finditer(PAGE.read_text())]
ALONE = [names for names in NAMES if names != ["madcluster.heads.head.Head.forward"]]


def inputs():
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    h, other = torch.randn(2, 4, 6, 3).double()
    labels = np.repeat(rng.random(20) < 0.3, 5)
    scores = rng.random(100)
    differences = {
        "entity": np.repeat(range(4), 3),
        "seed": np.tile(range(3), 4),
        "difference": rng.normal(size=12),
    }
    maps = torch.rand(2, 4, 4).softmax(-1), torch.rand(2, 3, 3).softmax(-1)
    changed = torch.rand(4, 6) < 0.5
    return {
        "one_directed_adaptive": (torch.rand(5), 0.4),
        "distance_and_cosine": (h, torch.randn(1, 3).double()),
        "contrast": (h[..., 0], other[..., 0], torch.tensor(0.5), changed),
        "discrepancies": maps,
        "vus_score": (labels, scores),
        "affiliation_precision_recall": (labels, scores > 0.8),
        "point_adjusted_f1_score": (labels, scores > 0.8),
        "best_f1_score": (labels, scores),
        "interval": (pd.DataFrame(differences),),
    }


OURS = {
    thing.__name__: thing
    for thing in (
        *(loss.one_directed_adaptive, loss.distance_and_cosine),
        *(contrastive.contrast, dcdetector.discrepancies, interval),
        *(metrics.vus_score, metrics.affiliation_precision_recall),
        *(metrics.point_adjusted_f1_score, metrics.best_f1_score),
    )
}


@pytest.fixture
def pasted(tmp_path, monkeypatch):
    """A module of one block; its file is kept, for classes look into it."""

    def paste(names):
        path = tmp_path / "pasted.py"
        path.write_text(functions.block(names))
        spec = importlib.util.spec_from_file_location("pasted", path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "pasted", module)
        spec.loader.exec_module(module)
        return module

    return paste


@pytest.mark.parametrize("names", ALONE, ids=lambda names: names[-1])
def test_a_block_runs_by_itself_and_does_what_the_package_does(names, pasted):
    code = functions.block(names)
    assert not re.search(r"^\s*(from|import) madcluster", code, re.MULTILINE)
    name = names[-1].rpartition(".")[2]
    module, arguments = pasted(names), inputs()[name]
    assert getattr(module, name) is not OURS[name]
    np.testing.assert_array_equal(getattr(module, name)(*arguments), OURS[name](*arguments))


def test_the_pasted_distance_is_the_head_s(pasted):
    module = pasted(["madcluster.heads.contrastive.shrunk_distance"])
    h, other = torch.randn(2, 40, 3)
    for found in (module.shrunk_distance(h, 0.01), contrastive.shrunk_distance(h, 0.01)):
        distance, mean = found
        assert mean < 3
        torch.testing.assert_close(distance(other), contrastive.shrunk_distance(h, 0.01)[0](other))


def test_a_method_is_given_alone():
    code = functions.block(["madcluster.heads.head.Head.forward"])
    assert code.startswith("def forward(self, h: Tensor) -> Assignment:")
    assert "import" not in code


def test_the_page_is_whole(tmp_path):
    page = tmp_path / "functions.md"
    page.write_text(PAGE.read_text())
    functions.fill(page)
    text = page.read_text()
    assert text.count("````{code-block} python") == len(NAMES) == 10
    assert "<!-- copy" not in text
    for name in OURS:
        assert f"def {name}(" in text
    assert len(re.findall(r"Test: `tests/\w+.py::test_\w+`. Time: [\d.]+ ms for ", text)) == 10


@pytest.mark.parametrize(
    ("comment", "message"),
    [
        (
            "copy: madcluster.loss.gone; test: tests/test_loss.py::x; speed: head",
            "test_loss.py has no x",
        ),
        (
            "copy: madcluster.loss.gone; test: tests/test_functions.py::inputs; speed: head",
            "madcluster.loss.gone is not in the package",
        ),
        (
            "copy: madcluster.loss.log_mean; test: tests/test_functions.py::inputs; speed: none",
            "the table of times has no none",
        ),
        ("copy: madcluster.loss.log_mean; speed: head", "not as it should be"),
    ],
)
def test_what_is_not_there_stops_the_build(tmp_path, comment, message):
    page = tmp_path / "functions.md"
    page.write_text(f"# Functions\n\n<!-- {comment} -->\n")
    with pytest.raises(ValueError, match=message):
        functions.fill(page)
    assert "<!--" in page.read_text()


def test_every_function_of_the_table_is_measured_as_it_is_called():
    cases = script("functions_speed").cases()
    table = read_result("functions").set_index("function")
    assert list(table.index) == list(cases)
    assert {name: size for name, (size, _) in cases.items()} == table["input"].to_dict()
    for _, call in cases.values():
        call()


def test_a_time_is_a_median_of_calls():
    calls = []
    found = script("functions_speed").milliseconds(lambda: calls.append(0), seconds=0)
    assert len(calls) == 6
    assert 0 <= found < 1000
    assert math.isfinite(found)
