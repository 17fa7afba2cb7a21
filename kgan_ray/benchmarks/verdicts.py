"""How often are verdicts wrong, and what do they see? `python -m kgan_ray.benchmarks.verdicts --sweeps 10000`.

Sweeps are simulated whose runs are normal numbers with standard deviation 1, as logarithms of FID nearly are; what judges
them is what judges real ones. It prints the tables of docs/verdicts.md, and takes some minutes on one core.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from scipy import stats

from kgan_ray.benchmarks.groups import coverage_of_groups, false_summaries
from kgan_ray.benchmarks.rounds import allotted_rounds
from kgan_ray.cli import run_verb, verb_parser
from kgan_ray.settings import UserError
from kgan_ray.tuning.answer.comparison import Comparison, Sample
from kgan_ray.tuning.answer.power import chance_to_tell
from kgan_ray.tuning.answer.significance import LEVEL, equivalence, holm, level_of
from kgan_ray.tuning.answer.verdict import judge

UNEQUAL = 3.0  # times the baseline's spread
ADVISED = 6  # further seeds
ROUNDS = (3, 6, 9, 12)  # seeds of each configuration at each look
LEVELS = [level_of(look, len(ROUNDS)) for look in range(1, len(ROUNDS) + 1)]
MARGINS = (np.log(1.25) / 0.15, np.log(1.5) / 0.15)  # in deviations, of seeds that spread by 0.15 in the logarithm
_MOST_AT_ONE_LOOK = 16
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


def until_decided(
    own: np.ndarray, baseline: np.ndarray, counts: Sequence[int], levels: Sequence[float], margin: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Judge each sweep after so many runs each, until every configuration has a word.

    Return which are called better or worse, which the same, and the runs of each until then: (sweeps, configurations).
    """
    shape = own.shape[0], own.shape[2]
    differs, same, used = np.zeros(shape, bool), np.zeros(shape, bool), np.full(shape, counts[-1])
    for runs, level in zip(counts, levels, strict=True):
        pair = own[:, 0, :, :runs], baseline[:, 0, :, :runs]
        goes_on = ~(differs | same)
        differs |= goes_on & (stats.ttest_ind(*pair, axis=-1, equal_var=False).pvalue < level / shape[1])
        same |= goes_on & ~differs & (equivalence(*pair, margin) < level / shape[1])
        used[goes_on & (differs | same)] = runs
    return differs, same, used


def false_words_in_rounds(random: np.random.Generator, sweeps: int) -> Iterator[tuple[object, ...]]:
    """Count the sweeps with a false word where rounds go on: of configurations without an effect, or with the margin's."""
    yield "margin in deviations", "configurations", "none has an effect", "all at the margin", "half of them each"
    for margin in MARGINS:
        for configurations in (1, 2, 8):
            rates = []
            for num_at_margin in (0, configurations, configurations // 2):
                own, baseline = simulated(random, sweeps, 1, configurations, ROUNDS[-1])
                own[:, :, :num_at_margin] += margin
                differs, same, _ = until_decided(own, baseline, ROUNDS, LEVELS, margin)
                false = [same[:, :num_at_margin].any(axis=1), differs[:, num_at_margin:].any(axis=1)]
                rates.append(np.mean(np.any(false, axis=0)))
            yield f"{margin:.1f}", configurations, *(rates if configurations > 1 else [*rates[:2], "-"])


def rounds(random: np.random.Generator, sweeps: int) -> Iterator[tuple[object, ...]]:
    """Set the runs that rounds use beside those of a fixed design that gives as many right words."""
    yield (
        "effect in deviations",
        "margin in deviations",
        "configurations",
        "better or worse",
        "the same",
        "can't tell",
        "runs in all",
        "as many words at one look",
        "runs saved",
    )
    for configurations in (1, 2, 8):
        for margin in MARGINS:
            for effect in (0.0, 1.0, 2.0, 3.0):
                own, baseline = simulated(random, sweeps, 1, configurations, _MOST_AT_ONE_LOOK)
                own += effect
                differs, same, used = until_decided(own, baseline, ROUNDS, LEVELS, margin)
                told = np.mean(differs | same)
                runs = np.mean(used.sum(axis=1) + used.max(axis=1))
                seeds = _seeds_at_one_look(own, baseline, margin, told)
                fixed = seeds * (configurations + 1)
                yield (
                    effect,
                    f"{margin:.1f}",
                    configurations,
                    differs.mean(),
                    same.mean(),
                    1 - told,
                    f"{runs:.1f}",
                    fixed if seeds else f"over {_MOST_AT_ONE_LOOK * (configurations + 1)}",
                    f"{1 - runs / fixed:.0%}" if seeds else "-",
                )


def _seeds_at_one_look(own: np.ndarray, baseline: np.ndarray, margin: float, told: float) -> int:
    """Return the fewest seeds that give a word as often at a single look; 0 where more would be needed than were drawn."""
    for seeds in range(2, own.shape[-1] + 1):
        differs, same, _ = until_decided(own, baseline, [seeds], [level_of(1)], margin)
        if np.mean(differs | same) >= told:
            return seeds
    return 0


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
    "False words in rounds until it is decided": false_words_in_rounds,
    "Rounds beside one look": rounds,
    "Rounds whose runs go where they tell more": allotted_rounds,
    "Several groups together": coverage_of_groups,
    "False summaries of several groups": false_summaries,
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
