"""How often are verdicts wrong, and what do they see? `python -m kgan_ray.benchmarks.verdicts --sweeps 10000`.

Sweeps are simulated whose runs are normal numbers with standard deviation 1, as logarithms of FID nearly are; what judges
them is what judges real ones. It prints the tables of docs/verdicts.md, and takes some minutes on one core.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from scipy import stats

from kgan_ray.cli import run_verb, verb_parser
from kgan_ray.settings import UserError
from kgan_ray.tuning.answer.power import chance_to_tell
from kgan_ray.tuning.answer.significance import LEVEL, holm, level_of
from kgan_ray.tuning.answer.verdict import Comparison, Sample, judge

UNEQUAL = 3.0  # times the baseline's spread
ADVISED = 6  # further seeds
_EXPENSIVE = 10  # one in so many sweeps is simulated where each is judged by itself


def simulated(
    random: np.random.Generator, sweeps: int, groups: int, configurations: int, seeds: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the runs of the configurations (sweeps, groups, configurations, seeds) and of a baseline in each group."""
    own = random.normal(size=(sweeps, groups, configurations, seeds))
    return own, random.normal(size=(sweeps, groups, 1, seeds))


def corrected(own: np.ndarray, baseline: np.ndarray, level: float = LEVEL) -> np.ndarray:
    """Return the p values of all comparisons of each sweep (sweeps, comparisons), corrected as `judge` corrects them."""
    p_values = stats.ttest_ind(own, baseline, axis=-1, equal_var=False).pvalue
    return holm(p_values.reshape(len(own), -1) * LEVEL / level)


def coverage(random: np.random.Generator, sweeps: int) -> Iterator[tuple[object, ...]]:
    """Count how often the interval of one comparison at 5 % holds the true difference."""
    yield "runs each", "equal spread", "three times the baseline's"
    for runs in (2, 3, 5, 10, 20):
        held = []
        for spread in (1.0, UNEQUAL):
            own, baseline = simulated(random, sweeps, 1, 1, runs)
            ends = stats.ttest_ind(own * spread, baseline, axis=-1, equal_var=False).confidence_interval(1 - LEVEL)
            held.append(np.mean((ends.low <= 0) & (ends.high >= 0)))
        yield runs, *held


def false_words(random: np.random.Generator, sweeps: int) -> Iterator[tuple[object, ...]]:
    """Count the sweeps in which any of several configurations that change nothing gets a word at any look."""
    yield (
        "groups x configurations",
        "seeds at each look",
        "looks uncorrected",
        "as judged",
        "as judged, looks planned",
    )
    for groups, configurations in ((1, 1), (1, 2), (1, 8), (2, 4)):
        for counts in ((3,), (5,), (3, 6, 9, 12, 15), tuple(range(3, 15))):
            own, baseline = simulated(random, sweeps, groups, configurations, counts[-1])
            looks = range(1, len(counts) + 1)
            rules = (lambda look: LEVEL, level_of, partial(level_of, planned=len(counts)))
            rates = [
                np.mean(words_by_look(own, baseline, counts, [rule(look) for look in looks]).any(axis=(0, 2)))
                for rule in rules
            ]
            yield f"{groups} x {configurations}", ", ".join(map(str, counts)), *rates


def words_by_look(
    own: np.ndarray, baseline: np.ndarray, counts: Sequence[int], levels: Sequence[float]
) -> np.ndarray:
    """Return which comparisons get a word at each look, after so many runs each: (looks, sweeps, comparisons)."""
    return np.stack(
        [
            corrected(own[..., :runs], baseline[..., :runs], level) < LEVEL
            for runs, level in zip(counts, levels, strict=True)
        ]
    )


def lost_runs(random: np.random.Generator, sweeps: int) -> Iterator[tuple[object, ...]]:
    """Count the sweeps with a false word where the worst runs, whatever their configuration, are lost."""
    yield "seeds", "configurations", "runs lost", "any false word", "of it lost every time"
    for seeds, configurations in ((3, 2), (3, 4), (3, 8), (5, 8)):
        for share in (0.1, 0.2, 0.3, 0.4):
            own, baseline = simulated(random, max(1, sweeps // _EXPENSIVE), 1, configurations, seeds)
            bound = stats.norm.isf(share)
            words = [_words(rows, base[0], bound) for rows, base in zip(own[:, 0], baseline[:, 0], strict=True)]
            rates = np.mean(words, axis=0)
            yield seeds, configurations, share, *rates


def _words(own: np.ndarray, baseline: np.ndarray, bound: float) -> tuple[bool, bool]:
    """Return whether any configuration of a sweep gets a word, and whether one gets it for having been lost every time."""
    samples = [_sample(runs, bound) for runs in (baseline, *own)]
    comparisons = [Comparison(str(k), sample, samples[0]) for k, sample in enumerate(samples[1:])]
    verdicts = judge(comparisons, mode="min", metric="fid", compare="difference")
    told = [verdict for verdict in verdicts if verdict.word != "can't tell"]
    return bool(told), any(not verdict.comparison.own.values for verdict in told)


def _sample(runs: np.ndarray, bound: float) -> Sample:
    """Lose the runs that are worse than a bound."""
    return Sample(tuple(runs[runs < bound].tolist()), lost=int((runs >= bound).sum()))


def power(random: np.random.Generator, sweeps: int) -> Iterator[tuple[object, ...]]:
    """Count how often one configuration with an effect gets its word, among others that change nothing."""
    yield (
        "effect in deviations",
        "configurations",
        "3 seeds",
        "5 seeds",
        "8 seeds",
        "12 seeds",
        "12 in 4 planned looks",
        "seeds used",
    )
    for configurations in (1, 8):
        for effect in (1.0, 1.5, 2.0, 3.0, 4.0):
            own, baseline = simulated(random, sweeps, 1, configurations, 12)
            own[:, :, 0] += effect
            once = [words_by_look(own, baseline, [runs], [level_of(1)])[0, :, 0].mean() for runs in (3, 5, 8, 12)]
            counts, levels = (3, 6, 9, 12), [level_of(look, 4) for look in range(1, 5)]
            told = words_by_look(own, baseline, counts, levels)[:, :, 0]
            used = np.where(told.any(axis=0), np.take(counts, told.argmax(axis=0)), counts[-1])
            yield effect, configurations, *once, told.any(axis=0).mean(), f"{used.mean():.1f}"


def sureness(random: np.random.Generator, sweeps: int) -> Iterator[tuple[object, ...]]:
    """Set the chance that further seeds tell, as it is said after three that did not, beside how often they then did."""
    yield "chance that was said", "comparisons", "said on average", "came true"
    count = max(40, sweeps // _EXPENSIVE)
    own, baseline = simulated(random, count, 1, 1, 3 + ADVISED)
    own += random.normal(0, 1.5, (count, 1, 1, 1))
    undecided = corrected(own[..., :3], baseline[..., :3], level_of(1))[:, 0] >= LEVEL
    told = (corrected(own, baseline, level_of(2)) < LEVEL)[undecided, 0]
    pairs = zip(own[undecided, 0, 0, :3], baseline[undecided, 0, 0, :3], strict=True)
    said = np.array([chance_to_tell(one, other, ADVISED, level_of(2)) for one, other in pairs])
    for low in (0.0, 0.25, 0.5, 0.75):
        inside = (said >= low) & (said < low + 0.25)
        if inside.any():
            yield f"{low:.0%} to {low + 0.25:.0%}", int(inside.sum()), said[inside].mean(), told[inside].mean()


TABLES = {
    "Coverage of the interval": coverage,
    "False words over comparisons and looks": false_words,
    "False words where runs are lost": lost_runs,
    "Power": power,
    "How sure the advice is": sureness,
}


def markdown(sweeps: int) -> str:
    """Simulate every table, each with random numbers of its own."""
    lines: list[str] = []
    for title, table in TABLES.items():
        heading, *rows = table(np.random.default_rng(0), sweeps)
        lines += [f"## {title}", "", f"| {' | '.join(map(str, heading))} |", "|" + "--:|" * len(heading)]
        lines += [f"| {' | '.join(map(_cell, row))} |" for row in rows]
        lines.append("")
    return "\n".join(lines)


def _cell(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, np.floating) else str(value)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = verb_parser("benchmarks.verdicts", __doc__)
    parser.add_argument(
        "--sweeps", type=int, default=10000, metavar="N", help="simulated for each figure (default: 10000)"
    )
    options = parser.parse_args(arguments)
    if options.sweeps < 1:
        raise UserError(f"--sweeps {options.sweeps}: at least 1 is needed")
    print(markdown(options.sweeps))
    return 0


if __name__ == "__main__":
    run_verb(main)
