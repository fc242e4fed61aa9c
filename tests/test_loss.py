"""The loss against its paper's piecewise form, its closed derivatives, and mpmath at 60 digits."""

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
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


def closed_form(q, threshold, log=math.log):
    """L and its two derivatives as chapter 6 gives them, in the number type of the arguments."""
    rest = 1 - threshold
    if q < threshold:
        return -rest * log(q), -rest / q, log(q)
    g = threshold**rest
    s = (1 - g) / rest
    ds = (1 - g * (1 - rest * log(threshold) + rest**2 / threshold)) / rest**2
    f1 = 1 - s * (1 - q)
    return -log(f1), -s / f1, ds * (1 - q) / f1


def exact(q, threshold):
    """The closed form at 60 digits, of the very numbers that the arguments hold."""
    with mpmath.workdps(60):
        values = closed_form(mpmath.mpf(q), mpmath.mpf(threshold), mpmath.log)
        return tuple(float(value) for value in values)


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


@given(st.floats(1e-6, 1), inside, st.floats(0, 0.5))
def test_smoothing_gives_the_other_label_its_share(q, threshold, share):
    q, threshold = torch.tensor(q).double(), torch.tensor(threshold).double()
    s = (1 - threshold ** (1 - threshold)) / (1 - threshold)
    terms = sorted([-(1 - s * (1 - q)).log().item(), -(1 - threshold).item() * q.log().item()])
    expected = (1 - share) * terms[1] + share * terms[0]
    ours = loss.one_directed_adaptive(q, threshold, smoothing=share)
    assert ours.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


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


def away_from_the_kink(q, threshold):
    """There is no derivative at q = ν, and rounding decides the side within some units of it."""
    assume(abs(q - threshold) > 1e-5 * threshold)


def test_the_closed_form_has_the_derivatives_that_mpmath_finds():
    with mpmath.workdps(60):
        for q, nu in ((0.3, 0.6), (0.6, 0.3), (0.01, 0.002), (0.999, 0.9), (0.9, 0.999)):
            q, nu, h = mpmath.mpf(q), mpmath.mpf(nu), mpmath.mpf(10) ** -20
            _, dq, dnu = closed_form(q, nu, mpmath.log)
            by_q = mpmath.diff(lambda x, nu=nu: closed_form(x, nu, mpmath.log)[0], q, h=h)
            by_nu = mpmath.diff(lambda x, q=q: closed_form(q, x, mpmath.log)[0], nu, h=h)
            assert mpmath.almosteq(dq, by_q, 1e-15)
            assert mpmath.almosteq(dnu, by_nu, 1e-15)


@given(st.floats(1e-2, 0.99), st.floats(1e-2, 0.99))
def test_autograd_is_the_closed_form_in_float64(q, threshold):
    away_from_the_kink(q, threshold)
    assert with_gradient(q, threshold) == pytest.approx(closed_form(q, threshold), rel=1e-9)


@given(st.floats(1e-9, 1, exclude_max=True), st.floats(1e-6, 1 - 2.0**-40))
def test_float64_equals_60_digits_and_falls_both_ways(q, threshold):
    away_from_the_kink(q, threshold)
    value, dq, dnu = with_gradient(q, threshold)
    assert (value, dq, dnu) == pytest.approx(exact(q, threshold), rel=1e-10, abs=1e-300)
    assert dq < 0
    assert dnu < 0


def within_1e_6(q, threshold):
    # without `abs`, approx would take 1e-12 as near enough, and losses near ν = 1 are smaller
    return pytest.approx(exact(q, threshold), rel=1e-6, abs=1e-37)


near_one = st.floats(1e-7, 0.1).map(lambda rest: float(np.float32(1) - np.float32(rest)))
anywhere = st.floats(float(np.float32(1e-6)), 1 - 2.0**-24, width=32)


@settings(max_examples=400)
@given(st.floats(float(np.float32(1e-6)), 1 - 2.0**-24, width=32), near_one | anywhere)
def test_float32_is_within_1e_6_of_60_digits(q, threshold):
    away_from_the_kink(q, threshold)
    got = with_gradient(q, threshold, torch.float32)
    assert got == within_1e_6(q, threshold)


@pytest.mark.parametrize("units", [1, 2, 3, 17, 200, 5_000, 100_000])
@pytest.mark.parametrize("q", [1e-6, 0.01, 0.25, 0.5, 0.75, 0.875, 0.999])
def test_float32_keeps_its_digits_near_a_threshold_of_one(units, q):
    # 1 − ν is a multiple of 2⁻²⁴ = 6e-8 here, whatever one writes: the reference takes the same ν
    threshold, q = 1 - units * 2.0**-24, float(np.float32(q))
    got = with_gradient(q, threshold, torch.float32)
    assert got == within_1e_6(q, threshold)


def test_the_plain_form_of_s_does_not_keep_them():
    nu = torch.tensor(1 - 17 * 2.0**-24)
    s = (1 - nu ** (1 - nu)) / (1 - nu)
    assert s == 0
    assert exact(1 - 2.0**-24, nu.item())[1] == pytest.approx(-17 * 2.0**-24, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@given(q=similarity, threshold=st.floats(0, 1, exclude_min=True, exclude_max=True))
@example(q=0.0, threshold=0.5)
@example(q=1.0, threshold=0.5)
@example(q=0.0, threshold=5e-324)
@example(q=0.3, threshold=1 - 1e-9)
@example(q=1.0, threshold=1 - 2.0**-53)
@example(q=0.0, threshold=1 - 2.0**-53)
@example(q=0.5, threshold=0.5)
def test_finite_everywhere(dtype, q, threshold):
    value, dq, dnu = with_gradient(q, threshold, dtype)
    assert all(math.isfinite(x) for x in (value, dq, dnu))
    assert value >= 0
    assert dq <= 0


@given(inside)
def test_the_gradient_at_q_of_one_is_that_of_f1(threshold):
    value, dq, dnu = with_gradient(1.0, threshold)
    s = (1 - threshold ** (1 - threshold)) / (1 - threshold)
    assert (value, dnu) == (0, 0)
    assert dq == pytest.approx(-s, rel=1e-9)


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


def test_radius_is_a_number_and_takes_no_gradient():
    assert not loss.radius(torch.rand(5, requires_grad=True), 0.1).requires_grad


def test_radius_refuses_nothing():
    with pytest.raises(ValueError, match="empty"):
        loss.radius(torch.ones(0), 0.1)


def test_soft_boundary_counts_only_what_is_outside():
    distance = torch.tensor([0.5, 1.0, 3.0])
    expected = torch.tensor([1.0, 1.0, 1 + 2 / 0.1])
    torch.testing.assert_close(loss.soft_boundary(distance, torch.tensor(1.0), 0.1), expected)


def test_cosine_assignment_spans_0_to_1_and_ignores_scale():
    c = torch.tensor([[1.0, 2.0]])
    h = torch.stack([c[0], -c[0], torch.tensor([-2.0, 1.0]), 100 * c[0], c[0] / 1000])[None]
    expected = torch.tensor([[[1.0], [0.0], [0.5], [1.0], [1.0]]])
    torch.testing.assert_close(loss.cosine_assignment(h, c), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("d", [3, 5, 64])
def test_rounding_carries_no_similarity_out_of_0_1(d):
    c = torch.randn(1, d, generator=torch.Generator().manual_seed(1))
    h = torch.linspace(-3, 3, 200)[None, :, None] * c
    for q in (loss.cosine_assignment(h, c), loss.distance_and_cosine(h, c)[1]):
        assert q.min() >= 0
        assert q.max() <= 1


def test_cosine_assignment_of_zero_has_a_finite_gradient():
    h = torch.zeros(1, 1, 3, requires_grad=True)
    q = loss.cosine_assignment(h, torch.ones(1, 3))
    q.sum().backward()
    assert q.item() == 0.5
    assert torch.isfinite(h.grad).all()


@pytest.mark.parametrize("d", [1, 7, 512, 2000])
def test_distance_and_cosine_are_the_two_functions_with_their_gradients(d, monkeypatch):
    monkeypatch.setattr(loss, "BLOCK", 1000)  # several blocks, the last one not whole
    h, center = torch.randn(3, 11, d).double(), torch.randn(1, d).double()
    weights = torch.randn(2, 3, 11).double()

    def results(function):
        inputs = [x.clone().requires_grad_() for x in (h, center)]
        values = torch.stack(function(*inputs))
        (weights * values).sum().backward()
        return [values.detach(), *(x.grad for x in inputs)]

    expected = results(
        lambda h, c: (
            loss.distance_mapping(h, c).squeeze(-1),
            loss.cosine_assignment(h, c).squeeze(-1),
        )
    )
    for ours, theirs in zip(results(loss.distance_and_cosine), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_distance_and_cosine_keep_small_distances_and_survive_zeros():
    center = torch.full((1, 3), 1000.0)
    h = (center + torch.tensor([1e-3, 0, 0])).requires_grad_()
    distance, q = loss.distance_and_cosine(h, center)
    distance.sum().backward()
    torch.testing.assert_close(h.grad, 2 * (h.detach() - center))
    assert distance.item() == pytest.approx((h[0, 0].item() - 1000) ** 2)
    zero = torch.zeros(1, 3, requires_grad=True)
    for pair in ((zero, center), (center, zero)):
        _, q = loss.distance_and_cosine(*pair)
        q.sum().backward()
        assert q.item() == 0.5
        assert torch.isfinite(zero.grad).all()


def test_distance_and_cosine_refuse_a_second_derivative():
    h = torch.randn(4, 3, requires_grad=True)
    distance, _ = loss.distance_and_cosine(h, torch.ones(1, 3))
    (slope,) = torch.autograd.grad(distance.square().sum(), h, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def test_student_t_assignment_sums_to_one_and_is_one_for_one_cluster():
    h = torch.randn(2, 7, 3)
    q = loss.student_t_assignment(h, torch.randn(4, 3))
    torch.testing.assert_close(q.sum(-1), torch.ones(2, 7))
    assert (loss.student_t_assignment(h, torch.randn(1, 3)) == 1).all()


def test_student_t_assignment_by_hand():
    q = loss.student_t_assignment(torch.zeros(1, 1, 1), torch.tensor([[1.0], [2.0]]))
    torch.testing.assert_close(q, torch.tensor([[[1 / 2, 1 / 5]]]) / (1 / 2 + 1 / 5))


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
