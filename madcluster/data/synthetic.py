"""A seeded plant of sensors with five labeled kinds of anomaly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from madcluster.data.series import Event, Series

__all__ = ["KINDS", "synthetic"]

# kind -> length of an event in steps
LENGTHS = {"spike": 3, "level_shift": 40, "drift": 60, "frequency": 60, "correlation": 60}
KINDS = tuple(LENGTHS)
PERIODS = (23.0, 37.0, 61.0)  # of the latent oscillators, in steps


def _latent(n: int, rng: np.random.Generator) -> np.ndarray:
    """Phases of the oscillators, with a slow random wander; (n 3)."""
    step = 2 * np.pi / np.array(PERIODS)
    wander = rng.normal(0, 0.02, (n, len(PERIODS)))
    return rng.uniform(0, 2 * np.pi, len(PERIODS)) + np.cumsum(step + wander, axis=0)


def _noise(n: int, c: int, rng: np.random.Generator) -> np.ndarray:
    """Autoregressive noise of unit variance and lag-one correlation 0.7; (n c)."""
    shocks = rng.normal(0, np.sqrt(1 - 0.7**2), (n, c))
    noise = np.empty((n, c))
    noise[0] = rng.normal(size=c)
    for i in range(1, n):
        noise[i] = 0.7 * noise[i - 1] + shocks[i]
    return noise


def _places(
    n: int, kinds: Sequence[str], per_kind: int, rng: np.random.Generator
) -> list[tuple[str, int, int]]:
    """Kind, start and stop of events that lie apart, in random order."""
    order = [kind for kind in kinds for _ in range(per_kind)]
    rng.shuffle(order)
    if not order:
        return []
    slot = n // len(order)
    need = max(LENGTHS[kind] for kind in order) + 20
    if slot < need:
        raise ValueError(
            f"{len(order)} events need a split of at least {need * len(order)} rows, got {n}"
        )
    places = []
    for i, kind in enumerate(order):
        start = i * slot + int(rng.integers(10, slot - LENGTHS[kind] - 9))
        places.append((kind, start, start + LENGTHS[kind]))
    return places


def _distance_to_ends(n: int) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(n), np.arange(n)[::-1]


def synthetic(
    n_train: int = 4000,
    n_test: int = 4000,
    n_channels: int = 8,
    *,
    seed: int = 0,
    kinds: Sequence[str] = KINDS,
    per_kind: int = 2,
    noise: float = 0.1,
    contamination: int = 0,
) -> Series:
    """Sensors that share three hidden oscillators, with anomalies planted in the test split.

    Every channel is a mixture of the oscillators, each with a lag of its own, plus autoregressive
    noise. The anomalies, each in one or two channels:

    - "spike": a few steps far off
    - "level_shift": a constant offset
    - "drift": an offset that grows from zero
    - "frequency": the channel's oscillators run half as fast again
    - "correlation": the channel falls behind the others, so its values and its shape are normal, and
      only its relation to them is not

    Parameters
    ----------
    n_train, n_test : rows of the splits
    n_channels : c, at least 2
    seed : the same seed gives the same bytes
    kinds : which kinds to plant
    per_kind : events of each kind
    noise : standard deviation of the noise, beside oscillators of amplitude about one
    contamination : events of each kind that are also planted, unlabeled, in the train split

    Raises
    ------
    ValueError
        For an unknown kind, too few channels, a negative number of events, or a split too short for
        its events.

    Examples
    --------
    >>> series = synthetic(seed=0)
    >>> series.train.shape, series.test.shape
    ((4000, 8), (4000, 8))
    >>> [event.kind for event in series.events_of("drift")]
    ['drift', 'drift']
    """
    unknown = [kinds] if isinstance(kinds, str) else sorted(set(kinds) - set(KINDS))
    if unknown:  # one word is no list of them
        raise ValueError(f"kinds must be a list of some of {KINDS}, got {unknown}")
    if n_channels < 2:
        raise ValueError(f"n_channels must be at least 2, got {n_channels}")
    for name, n in (("n_train", n_train), ("n_test", n_test)):
        if n < 1:
            raise ValueError(f"{name} must be positive, got {n}")
    for name, n in (("per_kind", per_kind), ("contamination", contamination)):
        if n < 0:
            raise ValueError(f"{name} must not be negative, got {n}")
    if noise < 0:
        raise ValueError(f"noise must not be negative, got {noise}")
    rng = np.random.default_rng(seed)
    loading = rng.dirichlet(np.full(len(PERIODS), 0.7), n_channels)  # (c 3)
    lag = rng.uniform(0, 2 * np.pi, (n_channels, len(PERIODS)))
    offset = rng.normal(0, 1, n_channels)

    def render(phase: np.ndarray, channel: int) -> np.ndarray:
        """One channel without noise, from phases (n 3)."""
        return offset[channel] + np.sin(phase + lag[channel]) @ loading[channel]

    def split(n: int, per_kind: int) -> tuple[np.ndarray, list[Event]]:
        phase = _latent(n, rng)
        x = np.stack([render(phase, channel) for channel in range(n_channels)], axis=1)
        x += noise * _noise(n, n_channels, rng)
        events = []
        for kind, start, stop in _places(n, kinds, per_kind, rng):
            many = 1 if kind in ("spike", "correlation") else 2
            channels = rng.choice(n_channels, min(many, n_channels - 1), replace=False)
            sign, rows = rng.choice([-1.0, 1.0]), slice(start, stop)
            for channel in channels:
                if kind == "spike":
                    x[rows, channel] += sign * rng.uniform(1.5, 2.5)
                elif kind == "level_shift":
                    x[rows, channel] += sign * 0.8
                elif kind == "drift":
                    x[rows, channel] += sign * np.linspace(0, 1.5, stop - start)
                elif kind == "frequency":
                    faster = phase[start] + 1.5 * (phase[rows] - phase[start])
                    x[rows, channel] += render(faster, channel) - render(phase[rows], channel)
                else:
                    # half a period of its strongest oscillator away, reached without a jump
                    shift = PERIODS[int(loading[channel].argmax())] / 2
                    ramp = np.minimum(1, np.minimum(*_distance_to_ends(stop - start)) / 15)
                    other = phase[rows] - ramp[:, None] * shift * 2 * np.pi / np.array(PERIODS)
                    x[rows, channel] += render(other, channel) - render(phase[rows], channel)
            events.append(Event(kind, start, stop, tuple(sorted(int(i) for i in channels))))
        return x, events

    train, _ = split(n_train, contamination)
    test, events = split(n_test, per_kind)
    labels = np.zeros(n_test, dtype=bool)
    for event in events:
        labels[event.start : event.stop] = True
    names = tuple(f"sensor {i}" for i in range(n_channels))
    return Series(f"synthetic/{seed}", train, test, labels, names, tuple(events))
