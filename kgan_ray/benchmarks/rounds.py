"""What further rounds gain whose runs go where the spread is: simulated sweeps of one configuration, for `benchmarks.verdicts`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kgan_ray.tuning.answer.allocation import allotted
from kgan_ray.tuning.answer.comparison import Comparison, Sample
from kgan_ray.tuning.answer.verdict import UNDECIDED, Word, judge
from kgan_ray.tuning.question.space import BASELINE

SEEDS, MOST, PLANNED = 3, 12, 4  # of `confirm: {seeds: 3, most_seeds: 12}`
RUNS = (10, 24)  # that a budget allows
SPREADS = (1 / 3, 1.0, 2.0, 4.0)  # of the configuration, times the baseline's
_EXPENSIVE = 10  # one in so many sweeps is simulated


def allotted_rounds(random: np.random.Generator, sweeps: int) -> Iterator[tuple[object, ...]]:
    """Count the words where further rounds are halved between both sides, and where runs go to whom they bring most.

    The margin is two deviations of the side that deviates more.
    """
    yield (
        "its spread",
        "runs at most",
        "effect",
        "told, halved",
        "told, allotted",
        "false, halved",
        "false, allotted",
    )
    for spread in SPREADS:
        margin = 2 * max(1.0, spread)
        for most in RUNS:
            for effect in (0.0, margin):
                rates = []
                for is_halved in (True, False):
                    words = [
                        _word(random, effect, spread, margin, most, is_halved)
                        for _ in range(max(1, sweeps // _EXPENSIVE))
                    ]
                    false = ("same",) if effect else ("better", "worse")
                    rates.append(np.mean([[word != UNDECIDED, word in false] for word in words], axis=0))
                yield f"{spread:.2g}", most, "the margin" if effect else "none", *np.transpose(rates).ravel()


def _word(
    random: np.random.Generator, effect: float, spread: float, margin: float, most: int, is_halved: bool
) -> Word:
    """Run rounds until the configuration is decided or the runs are spent."""
    own, baseline = effect + spread * random.normal(size=MOST), random.normal(size=MOST)
    counts, look = [SEEDS, SEEDS], 1
    while True:
        seen, beside = (Sample(tuple(runs[:count])) for runs, count in zip((own, baseline), counts, strict=True))
        comparison = Comparison("it", seen, beside, look=look)
        (verdict,) = judge(
            [comparison], mode="min", metric="fid", compare="difference", planned=PLANNED, margin=margin
        )
        further, seeds = min(2 * SEEDS, most - sum(counts)), MOST - max(counts)
        if verdict.word != UNDECIDED or further < 1 or seeds < 1:
            return verdict.word
        shares = allotted([comparison], further, seeds, "difference")
        given = [further // 2] * 2 if is_halved else [shares.get(("", name), 0) for name in ("it", BASELINE)]
        counts = [count + more for count, more in zip(counts, given, strict=True)]
        look += 1
