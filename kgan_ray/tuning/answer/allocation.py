"""Who runs how often in a further round: runs go to where they narrow the undecided comparisons most."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from kgan_ray.tuning.answer.comparison import Comparison, Sample
from kgan_ray.tuning.answer.significance import has_spread
from kgan_ray.tuning.question.space import BASELINE
from kgan_ray.tuning.state import Compare, Side

_PRIOR = 2.0  # runs' worth of trust in the spread of all sides together: a side's own is known from few runs


def allotted(undecided: Sequence[Comparison], runs: int, most: int, compare: Compare) -> dict[Side, int]:
    """Share out `runs` fresh runs among undecided configurations and the baselines of their groups.

    Each configuration gets one, for it is judged on the rounds that it runs in. Every further one goes to the side to whom
    it brings most: the part of a comparison's squared standard error that it takes away, summed over the comparisons
    (Neyman's allocation of 1934, by greedy steps). So whoever deviates more runs more often, and so does a baseline that
    many are compared with. Spreads decide, never means: nobody gains by leading.

    Args:
        undecided: what has been seen of them so far.
        runs: in all, one a comparison or more; fewer are given where `most` leaves no room.
        most: of any configuration.
        compare: the scale on which the verdicts see spreads.
    """
    pairs = [(one.side, (one.group, BASELINE)) for one in undecided]
    samples: dict[Side, Sample] = {}
    for one, (own, baseline) in zip(undecided, pairs, strict=True):
        samples |= {own: one.own, baseline: one.baseline}
    variances = _variances(samples, compare)
    shares = Counter(own for own, _ in pairs)
    for _ in range(runs - len(pairs)):
        gains: defaultdict[Side, float] = defaultdict(float)
        for pair in pairs:
            counts = {side: samples[side].runs + shares[side] for side in pair}
            errors = {side: variances[side] / max(1, counts[side]) for side in pair}
            for side in pair:
                gains[side] += errors[side] / (counts[side] + 1) / sum(errors.values())
        able = [side for side in gains if shares[side] < most]
        if not able:
            break
        shares[max(able, key=gains.__getitem__)] += 1
    return dict(shares)


def _variances(samples: Mapping[Side, Sample], compare: Compare) -> dict[Side, float]:
    """Estimate the variance of each side's runs; all are alike where runs were lost, as ranks are compared then."""
    values = {side: sample.scaled(compare) for side, sample in samples.items()}
    if any(sample.lost for sample in samples.values()) or not any(map(has_spread, values.values())):
        return dict.fromkeys(samples, 1.0)
    squares = {side: float(np.var(own)) * len(own) if own else 0.0 for side, own in values.items()}
    freedom = {side: max(0, len(own) - 1) for side, own in values.items()}
    shared = sum(squares.values()) / sum(freedom.values())
    return {side: (squares[side] + _PRIOR * shared) / (freedom[side] + _PRIOR) for side in samples}
