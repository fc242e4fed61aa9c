"""The loss against its paper's piecewise form, autograd, and mpmath at 50 digits."""

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import rel_entr

from madcluster import loss

inside = st.floats(1e-3, 1 - 1e-3)
similarity = st.floats(0, 1)


def piecewise(q, threshold):
    """L as the paper writes it: a hard label p chooses between f1 and f2."""
    p = (q >= threshold).to(q.dtype)
    s = (1 - threshold ** (1 - threshold)) / (1 - threshold)
    f1, f2 = 1 - s * (1 - q), q ** (1 - threshold)
    return -(p * f1.log() + (1 - p) * f2.log())


def exact(q, threshold):
    """L and its two derivatives at 50 digits."""
    with mpmath.workdps(50):
        q, nu = mpmath.mpf(q), mpmath.mpf(threshold)

        def value(q, nu):
            s = (1 - nu ** (1 - nu)) / (1 - nu)
            return max(-mpmath.log(1 - s * (1 - q)), -(1 - nu) * mpmath.log(q))

        return (
            float(value(q, nu)),
            float(mpmath.diff(lambda q: value(q, nu), q, h=mpmath.mpf(10) ** -20)),
            float(mpmath.diff(lambda nu: value(q, nu), nu, h=mpmath.mpf(10) ** -20)),
        )


def with_gradient(q, threshold, dtype=torch.float64):
    q = torch.tensor(q, dtype=dtype, requires_grad=True)
    threshold = torch.tensor(threshold, dtype=dtype, requires_grad=True)
    value = loss.one_directed_adaptive(q, threshold)
    value.backward()
    return value.item(), q.grad.item(), threshold.grad.item()


@given(st.floats(1e-6, 1), inside)
def test_one_directed_adaptive_is_the_papers_piecewise_form(q, threshold):
    q, threshold = torch.tensor(q).double(), torch.tensor(threshold).double()
    ours = loss.one_directed_adaptive(q, threshold)
    torch.testing.assert_close(ours, piecewise(q, threshold), rtol=1e-9, atol=1e-12)


@given(similarity, similarity, inside)
def test_one_directed_adaptive_decreases_in_q(q1, q2, threshold):
    low, high = sorted([q1, q2])
    low, high = (
        loss.one_directed_adaptive(torch.tensor(q).double(), threshold) for q in (low, high)
    )
    assert low >= high >= 0


@given(similarity, inside, inside)
def test_one_directed_adaptive_decreases_in_the_threshold(q, t1, t2):
    low, high = sorted([t1, t2])
    q = torch.tensor(q).double()
    gap = loss.one_directed_adaptive(q, low) - loss.one_directed_adaptive(q, high)
    assert gap >= -1e-12


@given(st.floats(1e-6, 1), st.floats(1e-6, 1), inside)
def test_one_directed_adaptive_is_convex_in_q(q1, q2, threshold):
    q1, q2 = torch.tensor(q1).double(), torch.tensor(q2).double()
    middle = loss.one_directed_adaptive((q1 + q2) / 2, threshold)
    ends = (
        loss.one_directed_adaptive(q1, threshold) + loss.one_directed_adaptive(q2, threshold)
    ) / 2
    assert middle <= ends + 1e-12


@given(inside)
def test_one_directed_adaptive_has_the_slopes_of_the_paper_at_the_kink(threshold):
    left, right = threshold * (1 - 1e-9), threshold * (1 + 1e-9)
    s = (1 - threshold ** (1 - threshold)) / (1 - threshold)
    assert with_gradient(left, threshold)[1] == pytest.approx(
        -(1 - threshold) / threshold, rel=1e-5
    )
    assert with_gradient(right, threshold)[1] == pytest.approx(
        -s * threshold ** (threshold - 1), rel=1e-5
    )


@given(st.floats(1e-3, 1 - 1e-3), inside)
def test_gradients_equal_50_digits(q, threshold):
    if abs(q - threshold) < 1e-6:
        return  # the kink has no derivative
    value, dq, dt = with_gradient(q, threshold)
    assert (value, dq, dt) == pytest.approx(exact(q, threshold), rel=1e-7, abs=1e-12)
    assert dq < 0
    assert dt < 0


@pytest.mark.parametrize("rest", [1e-1, 1e-3, 1e-4, 1e-5, 1e-6, 2.0**-23])
@pytest.mark.parametrize("q", [0.01, 0.25, 0.5, 0.75, 0.875])
def test_float32_keeps_its_digits_near_a_threshold_of_one(rest, q):
    threshold = float(np.float32(1) - np.float32(rest))
    expected = exact(q, threshold)
    assert with_gradient(q, threshold, torch.float32) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@given(q=similarity, threshold=inside)
def test_finite_everywhere(dtype, q, threshold):
    threshold = min(threshold, 1 - torch.finfo(dtype).eps)
    assert all(math.isfinite(value) for value in with_gradient(q, threshold, dtype))


def test_one_directed_adaptive_broadcasts_over_any_shape():
    q = torch.rand(2, 3, 1)
    assert loss.one_directed_adaptive(q, torch.tensor([0.2, 0.9])).shape == (2, 3, 2)


def test_distance_mapping_is_the_squared_euclidean_distance():
    h, centers = torch.randn(2, 5, 3).double(), torch.randn(4, 3).double()
    expected = torch.cdist(h, centers.expand(2, 4, 3)).square()
    torch.testing.assert_close(loss.distance_mapping(h, centers), expected)


def test_distance_mapping_keeps_small_distances():
    h = torch.full((1, 1, 4), 1000.0)
    h[0, 0, 0] += 2**-7
    assert loss.distance_mapping(h, torch.full((1, 4), 1000.0)).item() == pytest.approx(2.0**-14)


@given(st.floats(0.01, 0.99), st.integers(1, 300))
def test_radius_leaves_a_fraction_nu_outside(nu, n):
    distance = torch.arange(n).double()
    outside = (distance > loss.radius(distance, nu)).double().mean().item()
    assert outside <= nu + 0.5 / n + 1e-9 or n == 1
    assert outside >= nu - 1 / n


@pytest.mark.parametrize("nu", [0, 1, -1, 2, math.nan])
def test_radius_refuses_a_fraction_outside_0_1(nu):
    with pytest.raises(ValueError, match="nu must lie in"):
        loss.radius(torch.ones(3), nu)


def test_radius_refuses_nothing():
    with pytest.raises(ValueError, match="empty"):
        loss.radius(torch.ones(0), 0.1)


def test_soft_boundary_counts_only_what_is_outside():
    distance = torch.tensor([0.5, 1.0, 3.0])
    expected = torch.tensor([1.0, 1.0, 1 + 2 / 0.1])
    torch.testing.assert_close(loss.soft_boundary(distance, torch.tensor(1.0), 0.1), expected)


def test_cosine_assignment_spans_0_to_1_and_ignores_scale():
    c = torch.tensor([[1.0, 2.0]])
    h = torch.stack([c[0], -c[0], torch.tensor([-2.0, 1.0]), 100 * c[0]])[None]
    expected = torch.tensor([[[1.0], [0.0], [0.5], [1.0]]])
    torch.testing.assert_close(loss.cosine_assignment(h, c), expected, atol=1e-6, rtol=0)


def test_cosine_assignment_of_zero_has_a_finite_gradient():
    h = torch.zeros(1, 1, 3, requires_grad=True)
    q = loss.cosine_assignment(h, torch.ones(1, 3))
    q.sum().backward()
    assert q.item() == 0.5
    assert torch.isfinite(h.grad).all()


def test_student_t_assignment_sums_to_one_and_is_one_for_one_cluster():
    h = torch.randn(2, 7, 3)
    q = loss.student_t_assignment(h, torch.randn(4, 3))
    torch.testing.assert_close(q.sum(-1), torch.ones(2, 7))
    assert (loss.student_t_assignment(h, torch.randn(1, 3)) == 1).all()


def test_target_distribution_is_the_papers_sum_written_out():
    q = torch.rand(2, 5, 3).double()
    q = q / q.sum(-1, keepdim=True)
    p = loss.target_distribution(q)
    for b in range(2):
        frequency = [sum(q[b, t, j] for t in range(5)) for j in range(3)]
        for t in range(5):
            weight = [q[b, t, j] ** 2 / frequency[j] for j in range(3)]
            for j in range(3):
                assert p[b, t, j].item() == pytest.approx((weight[j] / sum(weight)).item())
    assert (loss.target_distribution(torch.rand(2, 5, 1)) == 1).all()
    assert not loss.target_distribution(q.requires_grad_()).requires_grad


def test_cluster_divergence_is_scipys_and_survives_zeros():
    q = torch.softmax(torch.randn(2, 5, 3).double(), -1)
    expected = rel_entr(loss.target_distribution(q).numpy(), q.numpy()).sum(-1)
    np.testing.assert_allclose(loss.cluster_divergence(q).numpy(), expected)
    hard = torch.tensor([[[1.0, 0.0], [0.5, 0.5]]])
    assert torch.isfinite(loss.cluster_divergence(hard)).all()


def test_log_mean_is_finite_for_a_loss_of_zero():
    x = torch.zeros(4, requires_grad=True)
    value = loss.log_mean(x)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(x.grad).all()
    assert loss.log_mean(torch.full((3,), math.e)).item() == pytest.approx(1)
