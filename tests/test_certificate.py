"""The certificates cover the square, say what the loss does, and refuse what is false."""

import sys
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import sympy as sp
import torch
from test_loss import closed_form

from madcluster.diagnostics import Certificate
from madcluster.heads.contrastive import contrast
from madcluster.study.certificate import (
    CLAIMS,
    CONTRAST,
    Box,
    Claim,
    RefutedError,
    UndecidedError,
    UnfoundedStripError,
    certify,
    chord,
    chord_fall,
    contrast_of,
    f1,
    f2,
    mean_decay,
)

flint = pytest.importorskip("flint")
SQUARE = Box(Fraction(0), Fraction(1), Fraction(0), Fraction(1))


ALL = {**CLAIMS, CONTRAST.name: CONTRAST}


@pytest.fixture(scope="module")
def certificates():
    return {name: certify(claim) for name, claim in ALL.items()}


def all_boxes(certificate):
    return [*certificate.boxes, *(box for covered in certificate.strips for box in covered.boxes)]


def test_all_claims_are_certified_within_a_minute(certificates):
    assert sum(c.seconds for c in certificates.values()) < 60
    assert all(certificate.boxes for certificate in certificates.values())


@pytest.mark.parametrize("name", ALL)
def test_the_areas_sum_to_exactly_one(name, certificates):
    certificate = certificates[name]
    area = sum(box.area for box in all_boxes(certificate))
    assert isinstance(area, Fraction)
    assert area == certificate.area == 1
    for covered in certificate.strips:
        assert sum(box.area for box in covered.boxes) == covered.strip.where.area
    # the strips are thin: most of the square is proved on the value itself
    assert sum(box.area for box in certificate.boxes) > Fraction(98, 100)


@pytest.mark.parametrize("name", ALL)
def test_every_point_lies_in_exactly_one_box(name, certificates):
    corners = np.array([[float(x) for x in box] for box in all_boxes(certificates[name])])
    rng = np.random.default_rng(0)
    edge = np.append(10.0 ** -rng.integers(1, 15, 20), 1 - 10.0 ** -rng.integers(1, 15, 20))
    for q, nu in [*rng.random((200, 2)), *zip(edge, rng.permutation(edge), strict=True)]:
        inside_q = (corners[:, 0] < q) & (q < corners[:, 1])
        inside_nu = (corners[:, 2] < nu) & (nu < corners[:, 3])
        assert (inside_q & inside_nu).sum() == 1


def arb(x):
    return flint.arb(float(x))


def test_the_certified_values_are_the_slopes_of_the_loss(certificates):
    rng = np.random.default_rng(1)
    for q, nu in rng.uniform(0.02, 0.98, (100, 2)):
        _, dq, dnu = closed_form(q, nu)
        branch = "chord" if q >= nu else "power"
        by_q = CLAIMS[f"falls in q, {branch}"].value(arb(q), arb(nu))
        by_nu = CLAIMS[f"falls in ν, {branch}"].value(arb(q), arb(nu))
        assert (float(by_q), float(by_nu)) == pytest.approx((-dq, -dnu), rel=1e-8)


def test_the_certified_order_is_that_of_the_branches():
    q = torch.linspace(0.01, 0.99, 99).double()
    nu = q[:, None] + 0.003
    s = (1 - nu ** (1 - nu)) / (1 - nu)
    below = 1 - s * (1 - q) <= q ** (1 - nu)
    assert (below == (q >= nu)).all()
    # "order" says that the slope of the chord from q to 1 falls in q
    for at, other in ((0.2, 0.6), (0.5, 0.3), (0.9, 0.7)):
        slope = [(1 - f2(arb(x), arb(other))) / (1 - arb(x)) for x in (at - 1e-6, at + 1e-6)]
        fall = float((slope[0] - slope[1]) / arb(2e-6)) * (1 - at) ** 2
        assert float(CLAIMS["order"].value(arb(at), arb(other))) == pytest.approx(fall, rel=1e-4)


def test_the_facts_that_the_lemmas_rest_on():
    """The equalities of the module's docstring, by computer algebra."""
    nu, q, a = sp.symbols("nu q a", positive=True)
    lam, g = -sp.log(nu), nu ** (1 - nu)
    s = (1 - g) / (1 - nu)

    def decay(x):
        return (1 - sp.exp(-x)) / x

    def gap(x):
        return 1 + nu * (x - 1) - x**nu

    def same(left, right):
        return sp.simplify(sp.expand_log(sp.powsimp(sp.expand(left - right)))) == 0

    assert same(s, lam * decay((1 - nu) * lam))
    assert same(1 - s, nu * (sp.exp(nu * lam) - 1) / (1 - nu))
    assert same(1 - s * (1 - q), s * q + 1 - s)
    assert same(sp.diff(sp.log(g), nu), lam + (1 - nu) / nu)
    assert same(gap(sp.exp(-a)), nu * a * (decay(nu * a) - decay(a)))
    assert same(gap(nu), nu * lam * (decay(nu * lam) - decay(lam)))
    assert same(gap(1 / nu), -nu * lam * (decay(-nu * lam) - decay(-lam)))
    assert same(-sp.diff(s, nu) * (1 - nu) ** 2, g * (1 - nu) * lam + g / nu * gap(nu))
    assert not same(gap(q), gap(nu))


def test_the_certified_contrast_is_that_of_the_head(certificates):
    """For all scores and borders, and with the law of both kinds of step the same in the mean."""
    generator = torch.Generator().manual_seed(0)
    u, border = 20 * torch.randn(2, 100, generator=generator, dtype=torch.float64)
    changed = torch.ones(100, 1, dtype=torch.bool)
    of_head = contrast(u[:, None], u[:, None], border[:, None], changed)
    # torch takes softplus as linear beyond 20, which leaves out 2e-9
    for gap, loss in zip((u - border).abs().tolist(), of_head.tolist(), strict=True):
        assert float(contrast_of((-arb(gap)).exp())) == pytest.approx(loss, rel=1e-9)
    bound = Certificate(None, None, 0).bound
    assert float(contrast_of(arb(1))) == pytest.approx(bound, rel=1e-15)  # which is attained
    assert CONTRAST.value(arb(1), arb(0.5)).contains(0)
    shuffled = u[torch.randperm(100, generator=generator)]
    pairs = contrast(u[None], shuffled[None], border[0], changed.T)
    alone = contrast(u[None], u[None], border[0], changed.T)
    torch.testing.assert_close(pairs, alone)
    assert certificates["contrast"].claim is CONTRAST


def test_the_kink_is_the_difference_of_the_slopes():
    for nu in (0.1, 0.5, 0.9):
        slopes = [closed_form(nu * (1 + side * 1e-9), nu)[1] for side in (-1, 1)]
        value = float(CLAIMS["convex at the kink"].value(arb(0.3), arb(nu)))
        assert value == pytest.approx(slopes[1] - slopes[0], rel=1e-5)


MUTATIONS = {
    "f1, not below a thousandth": ("f1", lambda q, nu: f1(q, nu) - arb(0.001)),
    "f1, not below q": ("f1", lambda q, nu: f1(q, nu) - q * (1 + nu)),
    "f1, slope of the tangent at ν": (
        "f1",
        lambda q, nu: 1 - (1 - q) * (1 - nu) * (-nu * nu.log()).exp(),
    ),
    "f2, not below q to the half": ("f2", lambda q, nu: f2(q, nu) - (q.log() / 2).exp()),
    "order, the other way round": ("order", lambda q, nu: -CLAIMS["order"].value(q, nu)),
    "order, a little more": ("order", lambda q, nu: CLAIMS["order"].value(q, nu) - (1 - q) / 10**4),
    "continuity, constant 0.999": ("continuity", lambda q, nu: arb(0.999) - chord(nu)),
    "slope above 1.01 (1 − ν)": ("pull", lambda q, nu: chord(nu) - arb(1.01) * (1 - nu)),
    "rises in q": ("falls in q, chord", lambda q, nu: -chord(nu) / f1(q, nu)),
    "falls faster than 1": ("falls in q, chord", lambda q, nu: chord(nu) / f1(q, nu) - 1),
    "falls beyond ν = 1/2": ("falls in q, power", lambda q, nu: (1 - 2 * nu) / q),
    "kink, slope of the line": (
        "convex at the kink",
        lambda q, nu: (1 - nu) / nu - 2 * chord(nu),
    ),
    "chord rises in ν": ("falls in ν, chord", lambda q, nu: -chord_fall(nu) * (1 - q)),
    "chord falls, sign of log ν": (
        "falls in ν, chord",
        lambda q, nu: (f2(nu, nu) * (1 + (1 - nu) * nu.log() + (1 - nu) ** 2 / nu) - 1) * (1 - q),
    ),
    "power falls faster than 1": ("falls in ν, power", lambda q, nu: -q.log() - 1),
    "Bernoulli, ν^ν for ν": (
        "Bernoulli",
        lambda q, nu: 1 + nu * (nu - 1) - (nu * nu.log()).exp() * arb(1.0001),
    ),
    "contrast, a little above 2 log 2": (
        "contrast",
        lambda q, nu: CONTRAST.value(q, nu) - arb(1e-4),
    ),
    "contrast, one softplus twice": (
        "contrast",
        lambda q, nu: 2 * (1 + q).log() - 2 * arb(2).log(),
    ),
    "Bernoulli, coefficient 1.001": (
        "Bernoulli",
        lambda q, nu: 1 + arb(1.001) * nu * (nu - 1) - (nu * nu.log()).exp(),
    ),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mutated_claim_is_refuted_by_a_witness(mutation):
    name, value = MUTATIONS[mutation]
    with pytest.raises(RefutedError, match="is refuted: q in") as caught:
        certify(replace(ALL[name], value=value))
    box = caught.value.box
    assert 0 <= box.q0 < box.q1 <= 1
    assert 0 <= box.nu0 < box.nu1 <= 1
    middle = [arb((a + b) / 2) for a, b in ((box.q0, box.q1), (box.nu0, box.nu1))]
    before, flint.ctx.prec = flint.ctx.prec, 400
    try:
        assert value(*middle) <= 0
    finally:
        flint.ctx.prec = before


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mutated_claim_is_refuted_without_its_strips_as_well(mutation):
    """The boxes alone find it, not only the trial of the lemmas."""
    _, value = MUTATIONS[mutation]
    tiny = Fraction(1, 2**12)
    inside = Box(tiny, 1 - tiny, tiny, 1 - tiny)
    frame = (
        SQUARE._replace(q1=tiny),
        SQUARE._replace(q0=1 - tiny),
        inside._replace(nu0=Fraction(0), nu1=tiny),
        inside._replace(nu0=1 - tiny, nu1=Fraction(1)),
    )
    strips = tuple(
        replace(
            CLAIMS["f1"].strips[0],
            where=box,
            factor=lambda q, nu: 1,
            bound=lambda q, nu: -arb(9**9),
        )
        for box in frame
    )
    with pytest.raises(RefutedError):
        certify(Claim(mutation, "", value, inside, strips), max_boxes=300_000)


def with_strip(name, index, **changes):
    strips = list(ALL[name].strips)
    strips[index] = replace(strips[index], **changes)
    return replace(ALL[name], strips=tuple(strips))


@pytest.mark.parametrize(
    ("name", "index", "changes"),
    [
        ("order", 1, {"bound": lambda q, nu: mean_decay(-q.lo.log())}),  # E for its derivative
        ("order", 2, {"factor": lambda q, nu: nu * q.log() ** 2 * 3}),
        ("Bernoulli", 1, {"factor": lambda q, nu: (1 - nu) ** 2}),  # the zero is of order three
        ("continuity", 0, {"factor": lambda q, nu: nu}),
        ("falls in ν, chord", 1, {"factor": lambda q, nu: 1}),
        ("pull", 0, {"factor": lambda q, nu: -nu}),  # a factor must be positive
        ("f2", 0, {"bound": lambda q, nu: arb("nan")}),
        ("contrast", 1, {"factor": lambda q, nu: 2 * (1 - q) ** 2}),  # twice what it is
    ],
)
def test_a_wrong_lemma_is_found(name, index, changes):
    with pytest.raises(UnfoundedStripError, match="the lemma"):
        certify(with_strip(name, index, **changes))


def test_a_bound_that_reaches_zero_is_undecided():
    claim = with_strip("pull", 0, bound=lambda q, nu: nu.lo)
    with pytest.raises(UndecidedError, match=r"undecided after 200 boxes: .*ν in \[0, "):
        certify(claim, max_boxes=200)


def test_zero_is_not_positive():
    with pytest.raises(RefutedError, match="zero is refuted"):
        certify(Claim("zero", "q − q > 0", lambda q, nu: q - q, SQUARE, ()))
    square = Claim("square", "(3q − 1)² > 0", lambda q, nu: (3 * q - 1) * (3 * q - 1), SQUARE, ())
    with pytest.raises(UndecidedError, match="square is undecided after 50 boxes"):
        certify(square, max_boxes=50)


def test_refuses_what_does_not_tile_the_square():
    half = SQUARE._replace(q1=Fraction(1, 2))
    with pytest.raises(ValueError, match="have area 1/2, not 1"):
        certify(replace(CLAIMS["f1"], inside=half, strips=()))
    with pytest.raises(ValueError, match="overlap"):
        certify(with_strip("f1", 0, where=half))
    with pytest.raises(ValueError, match="no box of the unit square"):
        certify(replace(CLAIMS["f1"], inside=SQUARE._replace(q1=Fraction(2)), strips=()))


def test_refuses_an_unknown_name():
    with pytest.raises(ValueError, match=r"must be one of \('f1', .*got 'f3'"):
        certify("f3")


def test_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "flint", None)
    with pytest.raises(ImportError, match="pip install python-flint"):
        certify("f1")


def test_leaves_the_precision_as_it_was():
    before = flint.ctx.prec
    certify("f2")
    with pytest.raises(RefutedError):
        certify(replace(CLAIMS["f2"], value=lambda q, nu: -q))
    assert flint.ctx.prec == before
