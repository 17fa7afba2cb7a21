"""Main effects: known values, and no credit for settings that do nothing."""

import math
import random

import pytest

from kgan_ray.tuning.answer.effects import Point, effects_of, explored_points, importance, permutation_p
from kgan_ray.tuning.state import EXPLORE, Sweep, Trial


def make(name, overrides, curve, status="finished", stage=EXPLORE) -> Trial:
    return Trial(
        name=name, stage=stage, configuration=name, overrides=overrides, seed=0, status=status,
        step=curve[-1][0], curve=curve, metrics={"fid": curve[-1][1]},
    )  # fmt: skip


def sweep_of(trials) -> Sweep:
    return Sweep(name="s", space={}, settings={}, metric="fid", mode="min", trials=trials)


def test_importance_of_levels_that_explain_everything_or_nothing():
    assert importance([[1.0, 1.0], [3.0, 3.0]]) == pytest.approx(1.0)
    assert importance([[1.0, 3.0], [1.0, 3.0]]) == 0.0
    assert importance([[1.0], [2.0]]) == 0.0  # as many levels as trials: nothing can be said


def test_importance_on_a_worked_example():
    # Levels -1, 0, 1 and 1, 2, 3: between = 6, within = 4, so (6 - 4 / 4) / 10.
    assert importance([[-1.0, 0.0, 1.0], [1.0, 2.0, 3.0]]) == pytest.approx(0.5)


def test_a_setting_that_does_nothing_gets_no_credit_on_average():
    generator = random.Random(0)
    found = [importance([[generator.gauss(0, 1) for _ in range(4)] for _ in range(3)]) for _ in range(200)]
    assert sum(found) / 200 < 0.15
    assert sorted(found)[100] < 0.05


def test_the_planted_effect_comes_first():
    generator = random.Random(1)
    points = []
    for index in range(24):
        rate, dummy = 10 ** generator.uniform(-6, -2), generator.choice([1.0, 2.0])
        value = 100 + 50 * math.log10(rate / 2e-4) ** 2 + generator.gauss(0, 5)
        points.append(Point(f"t{index}", {"dummy": dummy, "rate": rate}, value))
    first, second = effects_of(points)
    assert (first.setting, len(first.levels), second.setting) == ("rate", 3, "dummy")
    assert first.importance > 0.3 > second.importance
    assert sum(len(level.points) for level in first.levels) == 24


def test_trials_are_compared_at_the_last_step_that_all_reached():
    long, short = (
        make("a", {"x": 1}, [(10, 90.0), (20, 10.0)]),
        make("b", {"x": 2}, [(10, 80.0)], status="stopped"),
    )
    step, points = explored_points(sweep_of([long, short]))
    assert step == 10
    assert {point.trial: point.value for point in points} == {"a": 90.0, "b": 80.0}
    assert explored_points(sweep_of([])) == (0, [])


def test_trials_that_diverged_count_as_the_worst():
    """A setting that makes every other trial diverge is seen; the step at which they did shortens nobody's curve."""
    trials = [make(f"t{k}", {"x": 1}, [(10, 90.0 + k), (20, 10.0 + k)]) for k in range(5)]
    trials += [make(f"u{k}", {"x": 2}, [(5, 1.0)], status="diverged") for k in range(5)]
    step, points = explored_points(sweep_of(trials))
    assert step == 20
    assert [point.value for point in points] == [10.0, 11.0, 12.0, 13.0, 14.0, *[14.0] * 5]
    (effect,) = effects_of(points)
    assert effect.p_value < 0.05


def test_permutations_on_a_worked_example():
    # Of the C(6, 3) = 20 ways to part six values, two set all the small ones apart.
    assert permutation_p([[1.0, 2.0, 3.0], [11.0, 12.0, 13.0]]) == pytest.approx(2 / 20)
    assert permutation_p([[1.0], [2.0]]) == 1.0
    assert permutation_p([[2.0, 2.0], [2.0]]) == 1.0


def test_a_setting_that_does_nothing_is_rarely_called_unlikely():
    generator = random.Random(2)
    p_values = [permutation_p([[generator.gauss(0, 1) for _ in range(4)] for _ in range(2)]) for _ in range(200)]
    assert sum(p <= 0.05 for p in p_values) / 200 < 0.09
    assert sum(p_values) / 200 == pytest.approx(0.5, abs=0.08)


def test_off_is_a_level_of_its_own():
    points = [Point(str(k), {"mask": mask}, 1.0 + k) for k, mask in enumerate([None, 0.5, None, 0.9])]
    (effect,) = effects_of(points)
    assert [level.name for level in effect.levels] == ["0.5", "0.9", "off"]
