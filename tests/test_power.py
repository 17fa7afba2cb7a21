"""What so many seeds can show: agreement with simulations, and what is said of it."""

import numpy as np
import pytest

from helpers.sweep_records import finished_sweep
from kgan_ray.settings import override
from kgan_ray.tuning.answer.power import (
    Advice,
    advice,
    chance_to_tell,
    earlier_deviation,
    line_before_start,
    seen_effect,
)
from kgan_ray.tuning.answer.significance import welch


def test_the_effect_that_is_promised_is_seen_in_four_of_five_simulated_comparisons():
    effect = seen_effect(5, 0.05)
    random = np.random.default_rng(4)
    pairs = [(random.normal(0, 1, 5).tolist(), random.normal(effect, 1, 5).tolist()) for _ in range(500)]
    assert np.mean([welch(*pair).p_value < 0.05 for pair in pairs]) == pytest.approx(0.8, abs=0.06)


def test_advice_is_as_sure_as_it_says():
    """Effects of every size, three runs each that did not tell: of comparisons with six more, as many tell as was said."""
    random = np.random.default_rng(5)
    said, told = [], []
    while len(said) < 150:
        means = 0, random.normal(0, 1.5)
        one, other = (random.normal(mean, 1, 3).tolist() for mean in means)
        if welch(one, other).p_value < 0.03:
            continue
        said.append(chance_to_tell(one, other, 6, 0.01))
        more = [
            (one + random.normal(0, 1, 6).tolist(), other + random.normal(means[1], 1, 6).tolist())
            for _ in range(20)
        ]
        told.append(np.mean([welch(*pair).p_value < 0.01 for pair in more]))
    assert np.mean(said) == pytest.approx(np.mean(told), abs=0.07)
    likely = np.array(said) > 0.5
    assert np.mean(np.array(told)[likely]) > 0.6 > 0.4 > np.mean(np.array(told)[~likely])


def test_advice_in_words():
    assert str(advice([1.0], [2.0, 3.0], 0.01)) == "2 more seeds needed to know the spread"
    assert advice([1.0, 1.0], [2.0, 2.0], 0.01) is None
    few = advice([1.0, 2.0, 3.0], [4.0, 5.0, 6.5], 0.01)
    assert few.seeds <= 5
    assert 0.5 <= few.chance < 0.9
    assert str(few) == f"{few.seeds} more seeds would tell with a chance of {few.chance:.0%}"
    assert str(Advice(1, 0.61)) == "1 more seed would tell with a chance of 61%"


def test_equal_runs_are_soon_told_to_be_within_a_margin():
    one, other = [0.0, 0.3, -0.3], [0.1, -0.2, 0.3]
    assert chance_to_tell(one, other, 6, 0.01) < 0.2
    assert chance_to_tell(one, other, 6, 0.01, margin=2.0) > 0.8
    assert advice(one, other, 0.01, margin=2.0).seeds < advice(one, other, 0.01).seeds


def test_that_no_number_of_seeds_helps_is_no_proof_of_equality():
    same = np.random.default_rng(0).normal(0, 1, 60)
    hopeless = advice(same.tolist(), (same + 0.001).tolist(), 0.01)
    assert (hopeless.seeds, hopeless.chance < 0.5) == (100, True)
    assert str(hopeless) == (
        f"even 100 more seeds would tell with a chance of {hopeless.chance:.0%} only, which proves no equality"
    )


def test_the_spread_of_earlier_sweeps_says_what_the_next_one_sees():
    earlier = finished_sweep()  # three runs of the baseline with deviation 10, of the other with 2
    deviation, runs = earlier_deviation(finished_sweep(name="next"), [earlier])
    assert (deviation, runs) == (pytest.approx(((10**2 + 2**2) / 2) ** 0.5), 6)
    line = line_before_start(finished_sweep(name="next"), 3, 2, [earlier])
    size = seen_effect(3, 0.03 / 2) * deviation
    assert (
        line
        == f"3 seeds: a difference of {size:.2g} in fid is told from chance 80% of the time (spread of 6 earlier runs)"
    )
    ratio = line_before_start(finished_sweep(name="next", compare="ratio"), 5, 2, [earlier])
    assert ratio.startswith("5 seeds: a factor of 1.")
    assert earlier_deviation(finished_sweep(dataset_hash="other"), [earlier]) is None
    longer = finished_sweep(settings=override(earlier.settings, {"training.steps": 1200}))
    assert earlier_deviation(longer, [earlier]) is None
    assert line_before_start(finished_sweep(), 3, 1, []) == (
        "3 seeds: a difference of 3.6 deviations between seeds is told from chance 80% of the time"
    )
    assert line_before_start(finished_sweep(), 1, 1, []).startswith("one seed tells nothing from chance")
    rare = finished_sweep(name="next", compare="ratio")
    assert "even a factor of 1000 in fid is rarely told" in line_before_start(rare, 2, 400, [earlier])
