"""The page's charts: every trial and run is in them, log axes where they belong, and none of nothing."""

from dataclasses import replace

import pytest

from helpers.sweep_records import finished_sweep
from kgan_ray.tuning.answer.effects import Point, effects_of
from kgan_ray.tuning.answer.results import Results
from kgan_ray.tuning.report import charts, setting_charts

CHOICES = [
    {"pooling": "max", "mask": None},
    {"pooling": "<avg>", "mask": 0.5},
    {"pooling": "max", "mask": 0.9},
]
POINTS = [Point(f"t{k}", chosen, 10.0 * (k + 1)) for k, chosen in enumerate(CHOICES)]


def test_a_configurations_curve_is_the_mean_in_a_band_with_a_line_a_run():
    results = Results(finished_sweep())
    figure = charts.confirmed_curves(results.rows, "fid")
    baseline, better = (trace for trace in figure.data if trace.showlegend is None)
    assert (baseline.name, better.name) == ("baseline", "pooling max")
    assert list(baseline.y) == [300.0, 200.0, 100.0]
    upper, lower = (trace for trace in figure.data if trace.legendgroup == "baseline" and trace.line.width == 0)
    assert (list(upper.y), list(lower.y)) == ([330.0, 220.0, 110.0], [270.0, 180.0, 90.0])
    runs = [trace.name for trace in figure.data if trace.opacity == 0.4]
    assert runs == [f"{name}, seed {seed}" for name in ("baseline", "pooling max") for seed in (1000, 1001, 1002)]
    assert figure.layout.yaxis.type == "log"


def test_the_best_explored_curve_is_orange_and_drawn_last():
    figure = charts.explored_curves(Results(finished_sweep()).explored, "fid", is_low_good=True)
    *others, best = figure.data
    assert best.name == "explore-01: pooling=max"
    assert best.line.color == charts.ORANGE
    assert {trace.line.color for trace in others} == {charts.BLUE}


def test_an_interval_ends_where_the_verdict_says():
    (verdict,) = Results(finished_sweep()).verdicts
    (trace,) = charts.intervals([verdict], "fid").data
    assert trace.x[0] + trace.error_x.array[0] == pytest.approx(verdict.high)
    assert trace.x[0] - trace.error_x.arrayminus[0] == pytest.approx(verdict.low)
    assert (trace.text[0], trace.error_x.color) == ("better", charts.GREEN)


def test_a_ratio_is_drawn_on_a_logarithmic_axis_with_its_line_at_one():
    results = Results(finished_sweep(compare="ratio"))
    figure = charts.intervals(results.verdicts, "fid")
    assert figure.layout.xaxis.type == "log"
    assert [line.x0 for line in figure.layout.shapes] == [1]


@pytest.mark.parametrize(
    ("compare", "margin", "ends"), [("ratio", 1.25, (0.8, 1.25)), ("difference", 0.1, (-0.1, 0.1))]
)
def test_the_margin_of_a_verdict_is_shaded(compare, margin, ends):
    results = Results(finished_sweep(compare=compare, margin=margin))
    _, band = charts.intervals(results.verdicts, "fid").layout.shapes
    assert (band.x0, band.x1) == pytest.approx(ends)


def test_main_effects_hold_every_trial_and_the_means():
    figure = setting_charts.main_effects(effects_of(POINTS), "fid")
    dots = [trace for trace in figure.data if trace.marker.color == charts.BLUE]
    assert sorted(value for trace in dots for value in trace.y) == sorted(2 * [10.0, 20.0, 30.0])
    hovers = [text for trace in dots for text in trace.hovertext]
    assert "t1: fid 20, pooling=&lt;avg>, mask=0.5" in hovers
    (means,) = (trace for trace in figure.data if "max" in trace.x and trace.marker.color == charts.ORANGE)
    assert dict(zip(means.x, means.y, strict=True)) == pytest.approx({"<avg>": 20.0, "max": 300.0**0.5})


@pytest.mark.parametrize(
    ("count", "said"),
    [(8, "permutation p = {p:.2g}; too few trials for a share"), (20, "goes with {share:.0%} of the spread; permutation p = {p:.2g}")],
)  # fmt: skip
def test_a_share_of_the_spread_is_told_of_twenty_trials_or_more(count, said):
    (effect,) = effects_of([Point(f"t{k}", {"a.rate": k % 2}, 10.0 + 5 * (k % 2) + k) for k in range(count)])
    figure = setting_charts.main_effects([effect], "fid")
    assert said.format(p=effect.p_value, share=effect.importance) in figure.layout.annotations[0].text


def test_an_interval_over_many_powers_of_ten_does_not_set_the_axis():
    results = Results(finished_sweep(compare="ratio"))
    (narrow,) = results.verdicts
    figure = charts.intervals([replace(narrow, low=1e-9, high=1e9)], "fid")
    assert figure.layout.xaxis.range == pytest.approx((-2.28, 2.28), abs=0.01)


def test_parallel_coordinates_place_values_by_order_and_the_objective_by_its_logarithm():
    figure = setting_charts.parallel_coordinates(POINTS, ["pooling", "mask"], "fid", is_low_good=True)
    pooling, mask, fid = figure.data[0].dimensions
    assert [pooling.ticktext[pooling.tickvals.index(place)] for place in pooling["values"]] == [
        "max",
        "<avg>",
        "max",
    ]
    assert list(mask.ticktext) == ["0.5", "0.9", "off"]
    assert list(fid["values"]) == pytest.approx([1.0, 1.301, 1.477], abs=1e-3)
    assert list(fid.ticktext) == ["10", "15", "20", "25", "30"]
    assert list(figure.data[0].line.color) == [0, 1, 2]


def test_the_front_is_joined():
    sweep = finished_sweep()
    for trial in sweep.trials:
        trial.metrics["accuracy"] = 0.2 if trial.configuration == "baseline" else 0.1
    figure = charts.pareto(Results(sweep).rows, ("fid", "accuracy"), (True, False))
    (line,) = (trace for trace in figure.data if trace.mode == "lines")
    assert (list(line.x), list(line.y)) == ([50.0, 100.0], pytest.approx([0.1, 0.2]))


def test_a_front_of_configurations_that_differ_less_than_runs_of_one_is_not_drawn():
    sweep = finished_sweep()
    for trial in sweep.trials:
        trial.metrics["fid"] = 620.0 + (trial.configuration == "baseline") + 300.0 * (trial.seed % 3)
        trial.metrics["accuracy"] = 0.2 if trial.configuration == "baseline" else 0.1
    assert charts.pareto(Results(sweep).rows, ("fid", "accuracy"), (True, False)) is None


def test_nothing_is_drawn_of_nothing():
    assert charts.confirmed_curves([], "fid") is None
    assert charts.explored_curves([], "fid", is_low_good=True) is None
    assert charts.intervals([], "fid") is None
    assert setting_charts.main_effects([], "fid") is None
    assert setting_charts.parallel_coordinates([], [], "fid", is_low_good=True) is None


def test_a_run_that_diverged_is_drawn_up_to_its_last_finite_value():
    sweep = finished_sweep()
    sweep.trials[-1].curve.append((800, float("nan")))
    figure = charts.confirmed_curves(Results(sweep).rows, "fid")
    assert max(step for trace in figure.data for step in trace.x) == 600
