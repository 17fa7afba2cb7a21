"""Main effects: known values, no credit for settings that do nothing, and the drawings of them."""

import math
import random
import re
from xml.etree import ElementTree

import pytest

from kgan_ray.tuning.answer.effects import Point, effects_of, explored_points, importance
from kgan_ray.tuning.report.charts import bands, main_effects, parallel_axes, pareto, pareto_front
from kgan_ray.tuning.state import CONFIRM, EXPLORE, Sweep, Trial


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
    source = random.Random(0)
    found = [importance([[source.gauss(0, 1) for _ in range(4)] for _ in range(3)]) for _ in range(200)]
    assert sum(found) / 200 < 0.15
    assert sorted(found)[100] < 0.05


def test_the_planted_effect_comes_first():
    source = random.Random(1)
    points = []
    for index in range(24):
        rate, dummy = 10 ** source.uniform(-6, -2), source.choice([1.0, 2.0])
        value = 100 + 50 * math.log10(rate / 2e-4) ** 2 + source.gauss(0, 5)
        points.append(Point(f"t{index}", {"dummy": dummy, "rate": rate}, value))
    first, second = effects_of(points)
    assert (first.setting, len(first.levels), second.setting) == ("rate", 3, "dummy")
    assert first.importance > 0.3 > second.importance
    assert sum(len(values) for _, values in first.levels) == 24


def test_trials_are_compared_at_the_last_step_that_all_reached():
    long, short = (
        make("a", {"x": 1}, [(10, 90.0), (20, 10.0)]),
        make("b", {"x": 2}, [(10, 80.0)], status="stopped"),
    )
    lost = make("c", {"x": 3}, [(5, 1.0)], status="diverged")
    step, points = explored_points(sweep_of([long, short, lost]))
    assert step == 10
    assert {point.trial: point.value for point in points} == {"a": 90.0, "b": 80.0}
    assert explored_points(sweep_of([])) == (0, [])


def test_off_is_a_level_of_its_own():
    points = [Point(str(k), {"mask": mask}, 1.0 + k) for k, mask in enumerate([None, 0.5, None, 0.9])]
    (effect,) = effects_of(points)
    assert [name for name, _ in effect.levels] == ["0.5", "0.9", "off"]


def test_drawings_are_well_formed_labelled_and_hold_every_trial():
    choices = [
        {"pooling": "max", "mask": None},
        {"pooling": "<avg>", "mask": 0.5},
        {"pooling": "max", "mask": 0.9},
    ]
    points = [Point(f"t{k}", chosen, 10.0 * (k + 1)) for k, chosen in enumerate(choices)]
    runs = [make(f"c{k}", {}, [(10, 5.0 + k), (20, 3.0 + k)], stage=CONFIRM) for k in range(2)]
    effects = main_effects(effects_of(points), "fid")
    axes = parallel_axes(points, ["pooling", "mask"], "fid", is_low_good=True)
    front = pareto({"a": (5.0, 0.1), "b": (9.0, 0.3)}, ("fid", "accuracy"), (True, False))
    for drawing, told in (
        (front, "accuracy (logarithmic)"),
        (effects, "fid (logarithmic)"),
        (axes, "pooling"),
        (bands(runs, "fid"), "step"),
    ):
        texts = [node.text for node in ElementTree.fromstring(drawing).iter() if node.tag == "text"]
        assert told in texts
        assert not re.search(r"nan|inf\b", drawing)
    assert axes.count("<polyline") == 3
    assert effects.count("<circle") == 6


def test_there_is_no_drawing_of_nothing():
    assert bands([], "fid") == ""
    assert main_effects([], "fid") == ""
    assert parallel_axes([], [], "fid", is_low_good=True) == ""


def test_the_front_is_what_nothing_beats_in_both():
    values = {"a": (1.0, 0.2), "b": (2.0, 0.5), "c": (3.0, 0.4), "d": (1.0, 0.1), "e": (4.0, 0.5)}
    assert pareto_front(values, (True, False)) == ["a", "b"]
    assert pareto_front(values, (False, False)) == ["e"]
