"""Metrics of score maps against a literal transcription, scikit-learn and pyaupro."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pyaupro import PerRegionOverlap, auc_compute
from scipy import ndimage
from sklearn import metrics as sklearn_metrics

from madcluster.images import aupro, evaluate, image_scores


def literal_aupro(masks, maps, limit):
    """The definition word by word: a curve of all thresholds, clipped where it crosses the limit."""
    regions = []
    for i, mask in enumerate(masks):
        labeled, n = ndimage.label(mask, np.ones((3, 3)))
        regions += [(i, labeled == r) for r in range(1, n + 1)]
    points = [(0.0, 0.0)]
    for threshold in sorted(set(maps.ravel().tolist()), reverse=True):
        above = maps >= threshold
        overlap = np.mean([above[i][region].mean() for i, region in regions])
        points.append((above[masks == 0].mean(), overlap))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 >= limit:
            break
        if x1 > limit:
            y1 = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            x1 = limit
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


def made(seed, n=4, side=12, levels=None, share=0.15):
    rng = np.random.default_rng(seed)
    masks = rng.random((n, side, side)) < share
    masks[0] = False
    masks[1, 0, 0], masks[2, 0, 0] = True, False
    maps = rng.normal(size=masks.shape) + masks * rng.uniform(0, 2)
    return masks, maps if levels is None else np.round(maps * levels) / levels


CASES = {
    "seed": st.integers(0, 2**32 - 1),
    "levels": st.sampled_from([None, 1, 3]),
    "limit": st.sampled_from([0.05, 0.3, 1.0]),
    "share": st.sampled_from([0.02, 0.3, 0.9]),
}


@settings(max_examples=60)
@given(**CASES)
def test_aupro_is_its_definition(seed, levels, limit, share):
    masks, maps = made(seed, levels=levels, share=share)
    assert aupro(masks, maps, limit) == pytest.approx(literal_aupro(masks, maps, limit), abs=1e-12)


def by_pyaupro(masks, maps, limit, **options):
    other = PerRegionOverlap(thresholds=None, **options)
    other.update(torch.as_tensor(maps), torch.as_tensor(masks).long())
    return float(auc_compute(*other.compute(), limit=limit))


@settings(max_examples=30)
@given(CASES["seed"], CASES["limit"], CASES["share"])
def test_aupro_is_that_of_pyaupro(seed, limit, share):
    """Without ties: it ranks pixels with equal scores in the order in which they lie in memory."""
    masks, maps = made(seed, share=share)
    assert aupro(masks, maps, limit) == pytest.approx(by_pyaupro(masks, maps, limit), abs=1e-6)


@settings(max_examples=30)
@given(CASES["seed"], CASES["levels"], CASES["share"])
def test_aupro_is_that_of_the_official_code(seed, levels, share):
    """Ties and all, up to a limit of 1: below it pyaupro leaves out the line that crosses the limit."""
    masks, maps = made(seed, levels=levels, share=share)
    official = by_pyaupro(masks, maps, 1.0, reference_implementation=True)
    assert aupro(masks, maps, 1.0) == pytest.approx(official, abs=1e-6)


@settings(max_examples=60)
@given(CASES["seed"], CASES["levels"], CASES["share"])
def test_pixels_are_ranked_as_by_scikit_learn(seed, levels, share):
    masks, maps = made(seed, levels=levels, share=share)
    labels = masks.any((1, 2))
    found = evaluate(labels, image_scores(maps) + np.arange(4) * 1e-3, masks, maps)
    flat = masks.ravel(), maps.ravel()
    expected = sklearn_metrics.roc_auc_score(*flat), sklearn_metrics.average_precision_score(*flat)
    assert (found["pixel_auroc"], found["pixel_ap"]) == pytest.approx(expected, abs=1e-12)
    by_image = sklearn_metrics.roc_auc_score(labels, maps.max((1, 2)) + np.arange(4) * 1e-3)
    assert found["image_auroc"] == pytest.approx(by_image)
    assert found["aupro"] == aupro(masks, maps)


@given(arrays(np.float64, (3, 6, 6), elements=st.floats(-5, 5, width=16)), CASES["limit"])
def test_only_the_order_of_pixels_counts(maps, limit):
    masks = made(0, n=3, side=6)[0]
    before = aupro(masks, maps, limit)
    assert 0 <= before <= 1
    assert aupro(masks, 3 * maps - 7, limit) == pytest.approx(before, abs=1e-12)
    assert aupro(masks[::-1], maps[::-1], limit) == pytest.approx(before, abs=1e-12)
    turned = np.rot90(masks, axes=(1, 2)), np.rot90(maps, axes=(1, 2))
    assert aupro(*turned, limit) == pytest.approx(before, abs=1e-12)


def test_what_dice_reach_is_said():
    rng = np.random.default_rng(0)
    masks = np.zeros((40, 64, 64), bool)
    masks[20:, 10:30, 20:40] = True
    found = [
        evaluate(masks.any((1, 2)), rng.random(40), masks, rng.random(masks.shape, np.float32))
        for _ in range(30)
    ]
    for name in ("image_auroc", "pixel_auroc", "pixel_ap", "aupro"):
        chance = found[0][f"{name}_chance"]
        assert np.mean([each[name] for each in found]) == pytest.approx(chance, abs=0.03)
    assert found[0]["pixel_ap_chance"] == masks.mean()
    constant = np.ones(masks.shape)
    assert aupro(masks, constant) == pytest.approx(found[0]["aupro_chance"])


def test_a_small_defect_counts_as_much_as_a_large_one():
    masks = np.zeros((1, 20, 20), bool)
    masks[0, :10], masks[0, 15, 15] = True, True
    large = np.zeros((1, 20, 20))
    large[0, :10] = 1
    small = np.zeros((1, 20, 20))
    small[0, 15, 15] = 1
    # one of two defects wholly found, the other by the dice of a tie
    assert aupro(masks, large) == pytest.approx(0.5 + 0.5 * 0.15)
    assert aupro(masks, small) == pytest.approx(0.5 + 0.5 * 0.15)


def test_regions_touch_at_corners_and_not_across_images():
    masks = np.zeros((2, 4, 4), bool)
    masks[0, 0, 0] = masks[0, 1, 1] = masks[1, 0, 0] = True
    maps = np.zeros((2, 4, 4))
    maps[1, 0, 0] = 1  # one of two regions, not of three
    assert aupro(masks, maps) == pytest.approx(0.5 + 0.5 * 0.15)


@pytest.mark.parametrize(
    ("masks", "maps", "words"),
    [
        (np.zeros((2, 3, 3)), np.zeros((2, 3, 3)), "masks must mark some pixels and not all"),
        (np.ones((2, 3, 3)), np.zeros((2, 3, 3)), "masks must mark some pixels and not all"),
        (np.full((2, 3, 3), 2), np.zeros((2, 3, 3)), "masks must be 0 or 1"),
        (np.eye(3)[None], np.zeros((2, 3, 3)), r"masks are \(1, 3, 3\), maps \(2, 3, 3\)"),
        (np.eye(3)[None], np.full((1, 3, 3), np.nan), "maps must be finite, image 0"),
        (np.eye(3)[None], np.full((1, 3, 3), np.inf), "maps must be finite, image 0"),
        (np.eye(3), np.zeros((3, 3)), r"maps must be \(n h w\)"),
        (np.eye(3)[None], np.full((1, 3, 3), "a"), "maps must be numbers"),
        (np.eye(3)[None], np.ma.masked_equal(np.eye(3)[None], 1), "maps must not be masked"),
        (np.ma.masked_equal(np.eye(3)[None], 1), np.zeros((1, 3, 3)), "some are masked"),
    ],
)
def test_bad_masks_and_maps_are_refused(masks, maps, words):
    with pytest.raises(ValueError, match=words):
        aupro(masks, maps)


def test_bad_labels_are_refused():
    masks = np.stack([np.zeros((3, 3)), np.eye(3)])
    maps = np.random.default_rng(0).random((2, 3, 3))
    with pytest.raises(ValueError, match="labels must be one for each of 2 masks"):
        evaluate([0, 1, 1], [1, 2, 3], masks, maps)
    with pytest.raises(ValueError, match="image 1 has the label 0"):
        evaluate([1, 0], [1, 2], masks, maps)
    with pytest.raises(ValueError, match="labels must be 0 or 1"):
        evaluate([0, 2], [1, 2], masks, maps)
    with pytest.raises(ValueError, match="labels must be 0 or 1"):
        evaluate([0, np.nan], [1, 2], masks, maps)
    with pytest.raises(ValueError, match="labels must hold both classes, all are 1"):
        evaluate([1, 1], [1, 2], masks, maps)
    with pytest.raises(ValueError, match="image_scores holds nan in row 1"):
        evaluate([0, 1], [1, np.nan], masks, maps)
    with pytest.raises(ValueError, match="image_scores must be 2, one for each map, got 3"):
        evaluate([0, 1], [1, 2, 3], masks, maps)
    with pytest.raises(ValueError, match=r"image_scores must be \(n,\)"):
        evaluate([0, 1], maps, masks, maps)
    with pytest.raises(ValueError, match=r"limit must lie in \(0, 1\]"):
        aupro(masks, maps, 0)
    with pytest.raises(ValueError, match=r"limit must lie in \(0, 1\]"):
        evaluate([0, 1], [1, 2], masks, maps, limit=2)
    with pytest.raises(ValueError, match="labels must be an array"):
        evaluate([0, [1]], [1, 2], masks, maps)
    with pytest.raises(ValueError, match="masks must be an array"):
        evaluate([0, 1], [1, 2], [[[0]], [[0, 1]]], maps)
    with pytest.raises(ValueError, match="maps must be an array"):
        evaluate([0, 1], [1, 2], masks, torch.zeros(masks.shape, requires_grad=True))
