"""Do the intervals of a configuration over all groups hold the truth? Theirs beside the bootstrap of `rliable`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import stats

from kgan_ray.tuning.answer.comparison import Comparison, Sample
from kgan_ray.tuning.answer.significance import LEVEL
from kgan_ray.tuning.answer.together import drawn, over_groups

_RESAMPLES = 1000
_FINE = stats.norm.ppf((np.arange(4000) + 0.5) / 4000)  # a normal distribution
_EXPENSIVE = 10  # one in so many sweeps is simulated

Pairs = Sequence[tuple[np.ndarray, np.ndarray]]  # own runs and the baseline's of each group


def coverage_of_groups(random: np.random.Generator, sweeps: int) -> Iterator[tuple[object, ...]]:
    """Count how often 95 % intervals over two groups hold the true effect and the true share of pairs won."""
    yield "runs each", "effects", "spread", "effect", "pairs won", "effect, bootstrap", "pairs won, bootstrap"
    for runs in (3, 5, 12):
        for effects in ((0.0, 0.0), (1.0, 1.0), (0.0, 2.0)):
            for spread in (1.0, 3.0):
                truth = _truth(effects, spread)
                held = []
                for _ in range(max(1, sweeps // _EXPENSIVE)):
                    pairs = [(random.normal(-one, spread, runs), random.normal(size=runs)) for one in effects]
                    both = [*drawn(pairs, "min", _RESAMPLES), *_bootstrapped(pairs, random)]
                    held.append([_holds(values, true) for values, true in zip(both, truth * 2, strict=True)])
                yield runs, " and ".join(map(str, effects)), spread, *np.mean(held, axis=0)


def false_summaries(random: np.random.Generator, sweeps: int) -> Iterator[tuple[object, ...]]:
    """Count the sweeps in which any interval leaves "no difference" out, though no configuration has an effect."""
    yield "groups x configurations", "seeds", "of the effect", "of pairs won"
    for groups, configurations in ((2, 1), (2, 4), (4, 2)):
        for runs in (3, 6, 12):
            told = []
            for _ in range(max(1, sweeps // _EXPENSIVE)):
                own, baseline = (random.normal(size=(groups, n, runs)) for n in (configurations, 1))
                comparisons = [
                    Comparison(str(k), Sample(tuple(own[g, k])), Sample(tuple(baseline[g, 0])), str(g))
                    for g in range(groups)
                    for k in range(configurations)
                ]
                every = over_groups(comparisons, mode="min", metric="fid", compare="difference")
                told.append(
                    [
                        any(not one.effect.low <= 0.0 <= one.effect.high for one in every),
                        any(not one.pairs_won.low <= 0.5 <= one.pairs_won.high for one in every),
                    ]
                )
            yield f"{groups} x {configurations}", runs, *np.mean(told, axis=0)


def _truth(effects: Sequence[float], spread: float) -> list[float]:
    """Return the interquartile mean over all groups' runs, and the share of pairs won, of normal values."""
    pooled = np.sort(np.concatenate([-one + spread * _FINE for one in effects]))
    cut = len(pooled) // 4
    shares = stats.norm.cdf(np.array(effects) / np.hypot(spread, 1.0))
    return [float(pooled[cut:-cut].mean()), float(shares.mean())]


def _bootstrapped(pairs: Pairs, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Resample the runs of each group, as `rliable` does; return the effects and the shares of pairs won."""
    centred, shares = [], []
    for own, baseline in pairs:
        ours, theirs = (one[random.integers(len(one), size=(_RESAMPLES, len(one)))] for one in (own, baseline))
        centred.append(ours - theirs.mean(axis=1, keepdims=True))
        shares.append((ours[:, :, None] < theirs[:, None]).mean(axis=(1, 2)))
    return stats.trim_mean(np.concatenate(centred, axis=1), 0.25, axis=1), np.mean(shares, axis=0)


def _holds(values: np.ndarray, true: float) -> bool:
    low, high = np.quantile(values, [LEVEL / 2, 1 - LEVEL / 2])
    return bool(low <= true <= high)
