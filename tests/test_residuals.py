"""Residuals in units of their own covariance, and the shrunk root that they start from."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from madcluster.heads.base import moments
from madcluster.heads.residuals import Residuals, inverse_root


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(
    seed=st.integers(0, 2**31),
    d=st.integers(1, 8),
    rank=st.integers(0, 8),
    exponent=st.floats(-4, 4),
    eps=st.sampled_from([1e-3, 0.1, 1.0]),
)
@settings(max_examples=60)
def test_the_root_is_lower_triangular_and_that_of_the_shrunk_inverse(seed, d, rank, exponent, eps):
    h = 10**exponent * normal(50, min(rank, d), seed=seed) @ normal(min(rank, d), d, seed=seed + 1)
    covariance = h.T @ h / 50
    root = inverse_root(covariance, eps)
    mean = covariance.trace() / d
    shrunk = covariance + eps * (mean if mean > 0 else 1.0) * torch.eye(d)
    torch.testing.assert_close(root.T @ root @ shrunk, torch.eye(d).double(), rtol=0, atol=1e-7)
    assert torch.equal(root, root.tril())
    assert (root.diagonal() > 0).all()


def test_moments_by_hand():
    v = normal(40, 3) + 100
    mean, covariance = moments(lambda: v.split(7))
    torch.testing.assert_close(mean, v.mean(0))
    torch.testing.assert_close(covariance, v.T.cov(correction=0))


def test_nothing_is_changed_where_nothing_was_learned():
    residuals = Residuals(3)
    rows = 0.9 * normal(50, 3)  # a shrunk covariance makes them smaller than 1
    residuals.refit(lambda: rows.split(20), first=True)
    for _ in range(2):
        assert torch.equal(residuals(rows.float()), rows.float())
        assert residuals.log_det == 0
        residuals.refit(lambda: rows.split(20))


@given(seed=st.integers(0, 2**31), c=st.integers(1, 5))
@settings(max_examples=30)
def test_mean_and_covariance_follow_what_was_learned(seed, c):
    first, now = (
        normal(200, c, seed=seed),
        normal(200, c, seed=seed + 1) @ (0.5 * normal(c, c, seed=seed + 2)),
    )
    now = now + normal(c, seed=seed + 3)
    residuals = Residuals(c).double()
    residuals.refit(lambda: [first], first=True)
    residuals.refit(lambda: [now])
    s = (
        torch.eye(c)
        + now.T.cov(correction=0).reshape(c, c)
        - first.T.cov(correction=0).reshape(c, c)
    )
    if torch.linalg.eigvalsh(s)[0] > 1e-5:
        gap = now - (now.mean(0) - first.mean(0))
        expected = (gap @ torch.linalg.inv(s) * gap).sum(1)
        torch.testing.assert_close(residuals(now).square().sum(1), expected, rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(residuals.log_det, torch.logdet(s), rtol=1e-6, atol=1e-8)
    assert residuals.log_det >= c * torch.log(torch.tensor(1e-6)) - 1e-6


def test_a_refit_is_the_minimum_of_the_energy():
    """With a start that was white, for the rows that it was refitted to."""
    rows = normal(400, 3) @ normal(3, 3, seed=1)
    residuals = Residuals(3).double()
    residuals.refit(lambda: [normal(10**5, 3, seed=2)], first=True)
    residuals.refit(lambda: [rows])
    best = residuals.energy(residuals(rows)).item()
    for seed in range(5):
        other = Residuals(3).double()
        other.load_state_dict(residuals.state_dict())
        turned = residuals.root @ (torch.eye(3) + 0.1 * normal(3, 3, seed=seed))
        other.root.copy_(turned)
        other.log_det.copy_(-2 * torch.linalg.slogdet(turned).logabsdet)
        assert other.energy(other(rows)).item() > best
    assert best == pytest.approx((3 + torch.logdet(rows.T.cov(correction=0)).item()) / 2, rel=0.02)
