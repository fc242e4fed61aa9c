"""Figures with sliders: they compute as the package does, and obey the keyboard."""

import numpy as np
import pytest
import torch
from audit import CHROMIUM, HTML, browsing

from madcluster import loss, metrics
from madcluster.aggregation import smoothed
from madcluster.study.plots import Sliders

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="install chromium: apt-get install chromium"
)
STATIC = HTML.parents[1] / "book" / "_static"
OTHERWISE = "A figure with sliders, for a page with scripts."
NAMES = ["F1", "VUS-PR", "Affiliation precision"]
FIGURES = {
    "threshold": {
        "labels": [0, 1, 1, 0, 0, 1],
        "scores": {"PCA error": [0.1, 0.9, 0.2, 0.3, 0.8, 0.7], "noise": [6, 5, 4, 3, 2, 1]},
    },
    "delay": {
        "labels": [0, 1, 1, 0],
        "score": [0, 0, 0, 1, 1, 0, 0, 0],
        "before": 2,
        "delays": [-2, 0, 2],
        "windows": [0, 4, 8],
        "names": NAMES,
        "values": np.arange(27).reshape(3, 3, 3) / 100,
    },
    "smoothing": {
        "labels": [0, 1, 1, 0],
        "scores": {"L2 norm": [1, 2, 5, 6, 5, 0], "PCA error": [3, 2, 1, 9, 1, 0]},
        "before": 1,
        "widths": [1, 3, 5],
        "values": [[0.5, 0.6], [0.7, 0.8], [0.9, 0.4]],
    },
    "shrink": {"h": [[1, 0], [0, 1]], "c": [0.5, 0.5], "plane": np.eye(2), "nu": 0.5},
}


@pytest.fixture(scope="module")
def browser():
    with browsing() as found:
        yield found


@pytest.fixture
def page(browser):
    found = browser.new_page()
    yield found
    found.close()


def drawn(page, figure):
    """A page with this figure alone, and the errors of its scripts."""
    faults = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.set_content(Sliders(figure, FIGURES[figure], otherwise=OTHERWISE)._repr_html_())
    for name in ("one_directed", "sliders"):
        page.add_script_tag(path=STATIC / f"{name}.js")
    return faults


@pytest.mark.parametrize("figure", FIGURES)
def test_every_control_is_named_and_obeys_the_keyboard(page, figure):
    assert drawn(page, figure) == []
    assert OTHERWISE not in page.locator("body").inner_text()
    assert page.locator("svg[aria-label]").count() == page.locator("svg").count() == 2
    assert "NaN" not in page.content()
    said = page.locator("p[aria-live]")
    for control in page.locator("input, select").all():
        assert control.evaluate("e => e.labels[0].textContent.trim()")
        before = said.inner_text()
        control.focus()
        is_range = control.evaluate("e => e.type") == "range"
        at_start = is_range and control.input_value() == control.get_attribute("min")
        page.keyboard.press(("End" if at_start else "Home") if is_range else "ArrowDown")
        assert said.inner_text() != before
        if is_range:
            assert control.get_attribute("aria-valuetext")


@pytest.mark.parametrize("figure", FIGURES)
def test_without_scripts_a_sentence_stays(browser, figure):
    page = browser.new_page(java_script_enabled=False)
    page.set_content(Sliders(figure, FIGURES[figure], otherwise=OTHERWISE)._repr_html_())
    assert page.locator("body").inner_text().strip() == OTHERWISE
    page.close()


def test_the_figure_of_delays_shows_the_values_it_was_given(page):
    drawn(page, "delay")
    said = page.locator("p[aria-live]")
    assert said.inner_text() == (
        "On time, window 4: F1 0.12, VUS-PR 0.13, Affiliation precision 0.14."
    )
    page.locator("input").first.focus()
    page.keyboard.press("End")
    assert said.inner_text().startswith("2 steps late, window 4: F1 0.21")
    page.keyboard.press("Home")
    assert said.inner_text().startswith("2 steps early, window 4: F1 0.03")


def computed(page, call, *arguments):
    """What a function of the script gives."""
    for name in ("one_directed", "sliders"):
        page.add_script_tag(path=STATIC / f"{name}.js")
    return page.evaluate(f"arguments_ => {call}(...arguments_)", list(arguments))


@pytest.mark.parametrize("threshold", [-1.0, 0.2, 0.5, 0.9])
def test_the_threshold_has_the_package_s_precision_recall_and_f1(page, threshold):
    rng = np.random.default_rng(1)
    labels = np.repeat(rng.random(40) < 0.4, 5)
    scores = rng.random(200).round(1)  # ties, and values that are the threshold
    found = computed(page, "atThreshold", scores.tolist(), labels.astype(int).tolist(), threshold)
    wanted = metrics.evaluate(labels, scores, threshold=threshold)
    for ours, theirs in (("precision", "precision"), ("recall", "recall"), ("f1", "f1_score")):
        assert found[ours] == pytest.approx(wanted[theirs], abs=1e-12)
    adjusted = metrics.point_adjusted_f1_score(labels, scores > threshold)
    assert found["adjusted"] == pytest.approx(adjusted, abs=1e-12)
    assert found["flagged"] == (scores > threshold).sum()


def test_nothing_is_above_the_highest_score(page):
    found = computed(page, "atThreshold", [0.1, 0.2], [0, 1], 0.2)
    assert found == {"precision": 0, "recall": 0, "f1": 0, "adjusted": 0, "flagged": 0}


@pytest.mark.parametrize("window", [0, 1, 2, 7, 20, 60])
def test_buffers_are_the_package_s(page, window):
    labels = np.zeros(60, dtype=bool)
    labels[[0, 1, 10, 11, 12, 20, 21, 59]] = True
    found = computed(page, "softLabels", labels.astype(int).tolist(), window)
    np.testing.assert_allclose(found, metrics.soft_labels(labels, window), atol=1e-12)


@pytest.mark.parametrize("rows", [1, 2, 5, 20, 100])
def test_the_mean_is_the_package_s(page, rows):
    scores = np.random.default_rng(2).random(60)
    found = computed(page, "centeredMean", scores.tolist(), rows)
    np.testing.assert_allclose(found, smoothed(scores, rows, causal=False), atol=1e-12)


def test_the_figure_of_smoothing_shows_the_values_it_was_given(page):
    drawn(page, "smoothing")
    said = page.locator("p[aria-live]")
    assert said.inner_text() == "L2 norm, as it is. VUS-PR: L2 norm 0.50, PCA error 0.60."
    page.locator("input").focus()
    page.keyboard.press("ArrowRight")
    assert said.inner_text() == (
        "L2 norm, a mean over 3 rows. VUS-PR: L2 norm 0.70, PCA error 0.80."
    )


@pytest.mark.parametrize("along", [True, False])
@pytest.mark.parametrize("alpha", [0.1, 0.7, 1.0])
def test_what_shrinks_has_the_package_s_distance_similarity_and_loss(page, alpha, along):
    torch.manual_seed(0)
    h, c = 0.3 + torch.randn(20, 5).double(), torch.randn(1, 5).double()
    found = computed(page, "shrunk", h.tolist(), c[0].tolist(), alpha, along, 0.4)
    center = alpha * c if along else c
    q = loss.cosine_assignment(alpha * h, center)
    assert found["distance"] == pytest.approx(
        loss.distance_mapping(alpha * h, center).mean().item(), rel=1e-9
    )
    assert found["similarity"] == pytest.approx(q.mean().item(), rel=1e-9)
    assert found["loss"] == pytest.approx(
        loss.one_directed_adaptive(q, 0.4).mean().item(), rel=1e-9
    )


def test_numbers_are_plain_short_and_finite():
    html = Sliders("delay", {"a</b": np.array([1.23456, 2]), "c": [True]}, otherwise="<b>")
    assert '{"a<\\/b":[1.235,2.0],"c":[1]}' in html._repr_html_()
    assert "<p>&lt;b&gt;</p>" in html._repr_html_()
    assert repr(html) == "<b>"
    with pytest.raises(ValueError, match="Out of range"):
        Sliders("delay", {"a": float("nan")}, otherwise="")._repr_html_()
