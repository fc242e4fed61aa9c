"""Machine-checked inequalities of the One-directed Adaptive loss, on all of (0, 1)².

A claim is an inequality value(q, ν) > 0. `certify` cuts the open unit square into boxes and proves the
inequality on each of them with ball arithmetic (Arb, through python-flint), in which every rounding
error is part of the result. Boxes that do not yet decide are bisected.

Most values vanish somewhere on the edge of the square, where no finite number of boxes would do. Each
edge is therefore a `Strip` with a lemma of its own: value ≥ factor · bound, with a positive factor that
takes up the zero and a bound that stays away from it. Ball arithmetic then proves bound > 0 on the
*closed* strip. Nothing is left out: the areas are exact fractions that sum to 1. Finitely many closed
boxes of total area 1 in the square cover it, for what they missed would be open and have no area.

The lemmas rest on five facts. Let λ = −log ν, a = −log q, g = ν^(1−ν) and s = (1 − g)/(1−ν). Let
E(x) = ∫₀¹ exp(−xt) dt = (1 − exp(−x))/x and E₁ = −E′; both are positive and fall. Let
B(x) = 1 + ν(x−1) − x^ν, which is positive except at x = 1 (Bernoulli). On the open square:

1. s = λ·E((1−ν)λ) ≤ λ, as g = exp(−(1−ν)λ) and E ≤ 1. And 1 − s = (g − ν)/(1−ν)
   = ν(exp(νλ) − 1)/(1−ν) ≥ ν²λ > 0, as exp(x) − 1 ≥ x.
2. f1 = s·q + (1−s) with 0 < s < 1, so f1 ≥ s·q, f1 ≥ 1 − s and f1 ≤ 1.
3. g rises in ν, as (log g)′ = λ + (1−ν)/ν > 0. νλ rises for ν < 1/e, as (νλ)′ = λ − 1. And s ≥ 1 − g.
4. B(q) = (1 − exp(−νa)) − ν(1 − exp(−a)) = νa·(E(νa) − E(a)) = ν(1−ν)a²·m, where m is the mean of E₁
   between νa and a. The same holds for B(ν) with a = λ, and for B(1/ν) with a = −λ.
5. B(q) falls in q, as B′ = ν(1 − q^(ν−1)) < 0. f2 = q·exp(νa) ≥ q·(1 + νa). From
   −log(1−y) = y + y²/2 + … follow a ≥ (1−q)(1 + (1−q)/2) and λ ≥ 1 − ν. From
   −s′·(1−ν)² = g(1−ν)λ + g·B(ν)/ν follow −s′ ≥ gλ/(1−ν), hence −s′ ≥ g and −s′ ≥ νλ.

`CLAIMS` are those of chapter 6. `CONTRAST` is another, of the head that is trained by contrast: that no
score of one law has a loss below 2 log 2 (`madcluster.heads.contrastive.contrast`).

python-flint is needed for `certify` alone: pip install python-flint
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, product
from typing import Any, NamedTuple

__all__ = [
    "CLAIMS",
    "CONTRAST",
    "Box",
    "Certificate",
    "CertificateError",
    "Claim",
    "Covered",
    "Interval",
    "RefutedError",
    "Strip",
    "UndecidedError",
    "UnfoundedStripError",
    "certify",
]

# an arb ball, or a power series of balls: functions below use only + − · /, log and exp of them
Ball = Any

WIDTH = Fraction(1, 256)  # of a strip
PRECISION = 64  # bits of the balls in a box
SAMPLE_PRECISION = 400  # bits where a strip's lemma is tried, down to 2⁻⁶⁰ from the edge


class Box(NamedTuple):
    """A rectangle q0 ≤ q ≤ q1, nu0 ≤ ν ≤ nu1 with exact corners."""

    q0: Fraction
    q1: Fraction
    nu0: Fraction
    nu1: Fraction

    @property
    def area(self) -> Fraction:
        """Exactly, as a fraction of the unit square."""
        return (self.q1 - self.q0) * (self.nu1 - self.nu0)

    def halves(self, *, along_q: bool) -> tuple[Box, Box]:
        """The box cut in the middle of q, or of ν."""
        if along_q:
            middle = (self.q0 + self.q1) / 2
            return self._replace(q1=middle), self._replace(q0=middle)
        middle = (self.nu0 + self.nu1) / 2
        return self._replace(nu1=middle), self._replace(nu0=middle)

    def overlaps(self, other: Box) -> bool:
        """Whether the two share more than an edge."""
        return (
            max(self.q0, other.q0) < min(self.q1, other.q1)
            and max(self.nu0, other.nu0) < min(self.nu1, other.nu1)
        )  # fmt: skip


class Interval(NamedTuple):
    """Exact ends of one side of a box; what a strip's bound is a function of."""

    lo: Ball
    hi: Ball


@dataclass(frozen=True)
class Strip:
    """A part of the square, at its edge, with the lemma that holds there.

    Attributes
    ----------
    where : Box
    lemma : str
        value ≥ factor · bound on the open strip, in words for people.
    factor : (q, ν) -> ball
        Positive on the open square, with the zero of the value.
    bound : (Interval of q, Interval of ν) -> ball
        A lower bound over all of the closed box, written with its ends.
    """

    where: Box
    lemma: str
    factor: Callable[[Ball, Ball], Ball]
    bound: Callable[[Interval, Interval], Ball]


@dataclass(frozen=True)
class Claim:
    """value(q, ν) > 0 on the open unit square; `inside` and the strips tile it."""

    name: str
    statement: str
    value: Callable[[Ball, Ball], Ball]
    inside: Box
    strips: tuple[Strip, ...]


@dataclass(frozen=True)
class Covered:
    """A strip and the boxes on which its bound was proved positive."""

    strip: Strip
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class Certificate:
    """A proved claim.

    Attributes
    ----------
    claim : Claim
    boxes : tuple of Box
        Where the value itself was proved positive.
    strips : tuple of Covered
        Where the bound of a lemma was.
    area : Fraction
        Of all boxes together: 1.
    seconds : float
    """

    claim: Claim
    boxes: tuple[Box, ...]
    strips: tuple[Covered, ...]
    area: Fraction
    seconds: float


class CertificateError(ArithmeticError):
    """A claim that was not certified; `box` says where."""

    def __init__(self, message: str, box: Box) -> None:
        q0, q1, nu0, nu1 = map(float, box)
        super().__init__(f"{message}: q in [{q0:.6g}, {q1:.6g}], ν in [{nu0:.6g}, {nu1:.6g}]")
        self.box = box


class RefutedError(CertificateError):
    """The claim is false: its negation, value ≤ 0, is proved on all of `box`, the witness."""


class UnfoundedStripError(CertificateError):
    """The lemma of a strip is false: the value is proved to lie below factor · bound on `box`."""


class UndecidedError(CertificateError):
    """Neither proved nor refuted before the boxes ran out."""


def certify(claim: Claim | str, *, max_boxes: int = 100_000) -> Certificate:
    """Prove a claim on all of (0, 1)².

    Parameters
    ----------
    claim : Claim or a name in `CLAIMS`
    max_boxes : int
        How many boxes may be looked at before giving up.

    Returns
    -------
    Certificate

    Raises
    ------
    RefutedError
        If the negation is proved on some box.
    UnfoundedStripError
        If the value is found below what the lemma of a strip promises. The lemma is proved on paper;
        this trial, at points down to 2⁻⁶⁰ from the edge, is there to find a slip in either.
    UndecidedError
        If `max_boxes` did not decide, as where value and bound touch zero.
    ValueError
        If the name is unknown, or the inside and the strips do not tile the square.
    ImportError
        If python-flint is not installed.
    """
    if isinstance(claim, str):
        if claim not in CLAIMS:
            raise ValueError(f"claim must be one of {tuple(CLAIMS)}, got {claim!r}")
        claim = CLAIMS[claim]
    started = time.perf_counter()
    ctx = _flint().ctx
    _check_tiling(claim)
    before = ctx.prec
    try:
        ctx.prec = PRECISION
        boxes = tuple(_inside_boxes(claim, max_boxes))
        ctx.prec = SAMPLE_PRECISION
        for strip in claim.strips:
            _try_lemma(claim, strip)
        ctx.prec = PRECISION
        strips = tuple(Covered(s, tuple(_strip_boxes(s, max_boxes))) for s in claim.strips)
    finally:
        ctx.prec = before
    area = sum((b.area for part in (boxes, *(s.boxes for s in strips)) for b in part), Fraction(0))
    return Certificate(claim, boxes, strips, area, time.perf_counter() - started)


def _flint() -> Any:
    try:
        import flint
    except ImportError as error:
        raise ImportError(
            "certificates need python-flint: python -m pip install python-flint"
        ) from error
    return flint


def _check_tiling(claim: Claim) -> None:
    tiles = [claim.inside, *(strip.where for strip in claim.strips)]
    for tile in tiles:
        if not (0 <= tile.q0 < tile.q1 <= 1 and 0 <= tile.nu0 < tile.nu1 <= 1):
            raise ValueError(f"{claim.name}: {tile} is no box of the unit square")
    if any(a.overlaps(b) for a, b in combinations(tiles, 2)):
        raise ValueError(f"{claim.name}: the inside and the strips overlap")
    if (area := sum(tile.area for tile in tiles)) != 1:
        raise ValueError(f"{claim.name}: the inside and the strips have area {area}, not 1")


def _ball(lo: Fraction, hi: Fraction) -> Ball:
    flint = _flint()
    middle, half = (lo + hi) / 2, (hi - lo) / 2
    return flint.arb(_rational(middle), _rational(half))


def _rational(x: Fraction) -> Any:
    return _flint().fmpq(x.numerator, x.denominator)


def _interval(lo: Fraction, hi: Fraction) -> Interval:
    arb = _flint().arb
    return Interval(arb(_rational(lo)), arb(_rational(hi)))


def _samples(box: Box) -> Iterator[Box]:
    """Boxes of width 2⁻⁸⁰ in a strip, some of them 2⁻⁶⁰ from its edges."""
    tiny = Fraction(1, 2**80)
    places = [Fraction(1, 2**k) for k in (60, 20, 5, 1)]
    places += [1 - place for place in places[:3]]
    for u, v in product(places, places):
        q = box.q0 + u * (box.q1 - box.q0)
        nu = box.nu0 + v * (box.nu1 - box.nu0)
        yield Box(q, q + tiny, nu, nu + tiny)


def _try_lemma(claim: Claim, strip: Strip) -> None:
    for box in _samples(strip.where):
        q, nu = _ball(box.q0, box.q1), _ball(box.nu0, box.nu1)
        value, factor = claim.value(q, nu), strip.factor(q, nu)
        bound = strip.bound(_interval(box.q0, box.q1), _interval(box.nu0, box.nu1))
        if value <= 0:
            raise RefutedError(f"{claim.name} is refuted", box)
        # written so that a NaN fails
        if not factor > 0 or value < factor * bound or not (value - factor * bound).is_finite():
            raise UnfoundedStripError(f"{claim.name}: the lemma '{strip.lemma}' fails", box)


def _taylor(claim: Claim, box: Box) -> tuple[Ball, bool]:
    """Enclose the value on a box by the mean value theorem; and which side to cut next.

    value(q, ν) ∈ value(middle) + ∂q(box)·(q − middle) + ∂ν(box)·(ν − middle): the error falls with
    the square of the width, that of plain ball arithmetic only with the width.
    """
    flint = _flint()
    q, nu = _ball(box.q0, box.q1), _ball(box.nu0, box.nu1)

    def slope(*x: Ball) -> Ball:
        value = claim.value(*x)
        return value[1] if isinstance(value, flint.arb_series) else flint.arb(0)

    by_q = slope(flint.arb_series([q, 1], prec=2), nu) * (q - q.mid())
    by_nu = slope(q, flint.arb_series([nu, 1], prec=2)) * (nu - nu.mid())
    return claim.value(q.mid(), nu.mid()) + by_q + by_nu, by_q.rad() > by_nu.rad()


def _inside_boxes(claim: Claim, max_boxes: int) -> Iterator[Box]:
    queue = deque([claim.inside])  # largest boxes first, so that a witness is found soon
    for _ in range(max_boxes):
        if not queue:
            return
        box = queue.popleft()
        value = claim.value(_ball(box.q0, box.q1), _ball(box.nu0, box.nu1))
        along_q = box.q1 - box.q0 > box.nu1 - box.nu0
        if value.is_finite() and not value > 0:
            sharper, along_q = _taylor(claim, box)
            if value <= 0 or sharper <= 0:
                raise RefutedError(f"{claim.name} is refuted", box)
            value = sharper
        if value > 0:
            yield box
        else:
            queue.extend(box.halves(along_q=along_q))
    if queue:
        raise UndecidedError(f"{claim.name} is undecided after {max_boxes} boxes", queue[0])


def _strip_boxes(strip: Strip, max_boxes: int) -> Iterator[Box]:
    queue = deque([strip.where])
    for _ in range(max_boxes):
        if not queue:
            return
        box = queue.popleft()
        if strip.bound(_interval(box.q0, box.q1), _interval(box.nu0, box.nu1)) > 0:
            yield box
        else:
            queue.extend(box.halves(along_q=box.q1 - box.q0 > box.nu1 - box.nu0))
    if queue:
        raise UndecidedError(
            f"the bound of '{strip.lemma}' is undecided after {max_boxes} boxes", queue[0]
        )


# The functions of chapter 6, for balls and for series of balls. Written e = 1 − ν, λ = −log ν,
# a = −log q.


def f2(q: Ball, nu: Ball) -> Ball:
    """q^(1−ν)."""
    return ((1 - nu) * q.log()).exp()


def chord(nu: Ball) -> Ball:
    """s = (1 − ν^(1−ν)) / (1 − ν), the slope of the chord."""
    return (1 - f2(nu, nu)) / (1 - nu)


def f1(q: Ball, nu: Ball) -> Ball:
    """1 − s·(1 − q)."""
    return 1 - chord(nu) * (1 - q)


def chord_fall(nu: Ball) -> Ball:
    """−ds/dν."""
    e = 1 - nu
    return (f2(nu, nu) * (1 - e * nu.log() + e * e / nu) - 1) / (e * e)


def mean_decay(x: Ball) -> Ball:
    """E(x) = ∫₀¹ exp(−xt) dt = (1 − exp(−x)) / x: positive, falls in x, E(0) = 1."""
    return x + 1 if x == 0 else (1 - (-x).exp()) / x


def mean_decay_fall(x: Ball) -> Ball:
    """E₁(x) = −E′(x) = ∫₀¹ t·exp(−xt) dt: positive, falls in x, E₁(0) = 1/2."""
    return (x + 1) / 2 if x == 0 else (1 - (1 + x) * (-x).exp()) / (x * x)


def _entropy(nu: Ball) -> Ball:
    """−ν·log ν, which rises below ν = 1/e."""
    return -nu * nu.log()


_ONE, _ZERO = Fraction(1), Fraction(0)
_W, _V = WIDTH, 1 - WIDTH


_LOW, _HIGH = Box(_ZERO, _ONE, _ZERO, _W), Box(_ZERO, _ONE, _V, _ONE)  # ν near 0, ν near 1
_BETWEEN = Box(_ZERO, _ONE, _W, _V)
_LEFT, _RIGHT = Box(_ZERO, _W, _ZERO, _ONE), Box(_V, _ONE, _ZERO, _ONE)  # q near 0, q near 1

_ORDER_LEMMA = "q^ν·value = ν(1−ν)a²·(mean of E₁ over [νa, a]) ≥ ν(1−ν)a²·E₁(a)"


def _order_factor(q: Ball, nu: Ball) -> Ball:
    return nu * (1 - nu) * q.log() * q.log()


def _order_bound(q: Interval, nu: Interval) -> Ball:
    return mean_decay_fall(-q.lo.log())


_CLAIMS = (
    Claim(
        "f1",
        "f1 > 0",
        f1,
        _BETWEEN,
        (
            Strip(
                _LOW,
                "f1 ≥ s·q and s ≥ 1 − ν^(1−ν), which falls in ν",
                lambda q, nu: q,
                lambda q, nu: 1 - f2(nu.hi, nu.hi),
            ),
            Strip(
                _HIGH,
                "f1 ≥ 1 − s ≥ 1 − λ",
                lambda q, nu: 1,
                lambda q, nu: 1 + nu.lo.log(),
            ),
        ),
    ),
    Claim(
        "f2",
        "f2 > 0",
        f2,
        Box(_W, _ONE, _ZERO, _ONE),
        (
            Strip(
                _LEFT,
                "f2 = q·exp(νa) ≥ q·(1 + νa)",
                lambda q, nu: q,
                lambda q, nu: 1 - nu.lo * q.hi.log(),
            ),
        ),
    ),
    Claim(
        "order",
        "(1−ν)(1−q)q^(−ν) − (1 − q^(1−ν)) > 0, so f1 ≤ f2 exactly where q ≥ ν",
        lambda q, nu: (1 - nu) * (1 - q) * (-nu * q.log()).exp() - (1 - f2(q, nu)),
        Box(_W, _V, _W, _V),
        (
            Strip(
                _LEFT,
                "q^ν·value falls in q",
                lambda q, nu: nu * (1 - nu),
                lambda q, nu: q.hi.log() * q.hi.log() * mean_decay_fall(-q.hi.log()),
            ),
            Strip(_RIGHT, _ORDER_LEMMA, _order_factor, _order_bound),
            Strip(Box(_W, _V, _ZERO, _W), _ORDER_LEMMA, _order_factor, _order_bound),
            Strip(Box(_W, _V, _V, _ONE), _ORDER_LEMMA, _order_factor, _order_bound),
        ),
    ),
    Claim(
        "continuity",
        "1 − s > 0, so neither branch changes by more than log q does",
        lambda q, nu: 1 - chord(nu),
        _BETWEEN,
        (
            Strip(
                _LOW,
                "1 − s = ν(exp(νλ) − 1)/(1−ν) ≥ ν²λ",
                lambda q, nu: nu * nu,
                lambda q, nu: -nu.hi.log(),
            ),
            Strip(
                _HIGH,
                "s = λ·E((1−ν)λ) ≤ λ",
                lambda q, nu: 1,
                lambda q, nu: 1 + nu.lo.log(),
            ),
        ),
    ),
    Claim(
        "falls in q, chord",
        "s/f1 > 0: −log f1 falls in q, and its curvature (s/f1)² is positive",
        lambda q, nu: chord(nu) / f1(q, nu),
        _BETWEEN,
        (
            Strip(
                _LOW,
                "f1 ≤ 1 and s ≥ 1 − ν^(1−ν)",
                lambda q, nu: 1,
                lambda q, nu: 1 - f2(nu.hi, nu.hi),
            ),
            Strip(
                _HIGH,
                "f1 ≤ 1 and s = λ·E((1−ν)λ), λ ≥ 1 − ν",
                lambda q, nu: 1 - nu,
                lambda q, nu: mean_decay((nu.lo - 1) * nu.lo.log()),
            ),
        ),
    ),
    Claim(
        "falls in q, power",
        "(1−ν)/q > 0: −log f2 falls in q, and its curvature (1−ν)/q² is positive",
        lambda q, nu: (1 - nu) / q,
        Box(_W, _ONE, _ZERO, _V),
        (
            Strip(
                Box(_ZERO, _W, _ZERO, _V),
                "the value falls in q and in ν",
                lambda q, nu: 1,
                lambda q, nu: (1 - nu.hi) / q.hi,
            ),
            Strip(
                _HIGH,
                "value/(1−ν) falls in q",
                lambda q, nu: 1 - nu,
                lambda q, nu: 1 / q.hi,
            ),
        ),
    ),
    Claim(
        "convex at the kink",
        "(1−ν)/ν − s·ν^(ν−1) > 0: the slope of L jumps up at q = ν",
        lambda q, nu: (1 - nu) / nu - chord(nu) * ((nu - 1) * nu.log()).exp(),
        _BETWEEN,
        (
            Strip(
                _LOW,
                "(1−ν)·value = λ·(E(νλ) − E(λ))",
                lambda q, nu: -nu.log(),
                lambda q, nu: mean_decay(_entropy(nu.hi)) - mean_decay(-nu.hi.log()),
            ),
            Strip(
                _HIGH,
                "value = λ²·(mean of E₁ over [νλ, λ]) ≥ λ²·E₁(λ)",
                lambda q, nu: nu.log() * nu.log(),
                lambda q, nu: mean_decay_fall(-nu.lo.log()),
            ),
        ),
    ),
    Claim(
        "falls in ν, chord",
        "−s′·(1−q)/f1 > 0: −log f1 falls in ν",
        lambda q, nu: chord_fall(nu) * (1 - q) / f1(q, nu),
        Box(_ZERO, _V, _W, _V),
        (
            Strip(
                Box(_V, _ONE, _W, _V),
                "f1 ≤ 1 and −s′ ≥ ν^(1−ν), which rises in ν",
                lambda q, nu: 1 - q,
                lambda q, nu: f2(nu.lo, nu.lo),
            ),
            Strip(
                _HIGH,
                "f1 ≤ 1 and −s′ ≥ ν^(1−ν), which rises in ν",
                lambda q, nu: 1 - q,
                lambda q, nu: f2(nu.lo, nu.lo),
            ),
            Strip(
                _LOW,
                "f1 ≤ 1 and −s′ ≥ ν^(1−ν)·λ/(1−ν) ≥ νλ",
                lambda q, nu: nu * (1 - q),
                lambda q, nu: -nu.hi.log(),
            ),
        ),
    ),
    Claim(
        "falls in ν, power",
        "−log q > 0: −log f2 falls in ν",
        lambda q, nu: -q.log(),
        Box(_W, _V, _ZERO, _ONE),
        (
            Strip(
                _LEFT,
                "−log q falls in q",
                lambda q, nu: 1,
                lambda q, nu: -q.hi.log(),
            ),
            Strip(
                _RIGHT,
                "−log q = Σ (1−q)ⁿ/n ≥ (1−q)(1 + (1−q)/2)",
                lambda q, nu: 1 - q,
                lambda q, nu: 1 + (1 - q.hi) / 2,
            ),
        ),
    ),
    Claim(
        "Bernoulli",
        "1 + ν(ν−1) − ν^ν > 0",
        lambda q, nu: 1 + nu * (nu - 1) - (nu * nu.log()).exp(),
        _BETWEEN,
        (
            Strip(
                _LOW,
                "value = νλ·(E(νλ) − E(λ))",
                lambda q, nu: _entropy(nu),
                lambda q, nu: mean_decay(_entropy(nu.hi)) - mean_decay(-nu.hi.log()),
            ),
            Strip(
                _HIGH,
                "value = ν(1−ν)λ²·(mean of E₁ over [νλ, λ]) ≥ ν(1−ν)λ²·E₁(λ)",
                lambda q, nu: nu * (1 - nu) * nu.log() * nu.log(),
                lambda q, nu: mean_decay_fall(-nu.lo.log()),
            ),
        ),
    ),
    Claim(
        "pull",
        "s − (1−ν) > 0, so the pull on q is more than 1 − ν",
        lambda q, nu: chord(nu) - (1 - nu),
        _BETWEEN,
        (
            Strip(
                _LOW,
                "(1−ν)·value = ν·(2 − ν − exp(νλ))",
                lambda q, nu: nu,
                lambda q, nu: 2 - nu.hi - _entropy(nu.hi).exp(),
            ),
            Strip(
                _HIGH,
                "value = ν²λ²·(mean of E₁ over [−λ, −νλ]) ≥ ν²λ²·E₁(−νλ)",
                lambda q, nu: nu * nu * nu.log() * nu.log(),
                lambda q, nu: mean_decay_fall(nu.lo * nu.hi.log()),
            ),
        ),
    ),
)

CLAIMS: dict[str, Claim] = {claim.name: claim for claim in _CLAIMS}


def contrast_of(q: Ball) -> Ball:
    """softplus(v) + softplus(−v) = v + 2 log(1 + exp(−v)), of q = exp(−v) with v > 0."""
    return -q.log() + 2 * (1 + q).log()


def _two_log_two() -> Ball:
    return 2 * _flint().arb(2).log()


# The loss of a score u and a border b at a step is softplus(u − b) + softplus(b − u), where a corrupted
# step has the score that it had, and in the mean where it has its law. It depends on |u − b| alone.
# As u and b go through all numbers, q = exp(−|u − b|) goes through (0, 1], and at q = 1 the loss is
# 2 log 2. The second coordinate has no part in it.
CONTRAST = Claim(
    "contrast",
    "softplus(u − b) + softplus(b − u) > 2 log 2 for q = exp(−|u − b|) < 1, and it is that for u = b",
    lambda q, nu: contrast_of(q) - _two_log_two(),
    Box(_W, _V, _ZERO, _ONE),
    (
        Strip(
            _LEFT,
            "the value falls in q, with the slope −(1−q)/(q(1+q))",
            lambda q, nu: 1,
            lambda q, nu: contrast_of(q.hi) - _two_log_two(),
        ),
        Strip(
            _RIGHT,
            "value = −log(1 − y) ≥ y with y = ((1−q)/(1+q))²",
            lambda q, nu: (1 - q) * (1 - q),
            lambda q, nu: 1 / ((1 + q.hi) * (1 + q.hi)),
        ),
    ),
)
