"""The measurement of a sweep's own cost."""

import pytest

from kgan_ray.benchmarks.overhead import Overhead, measure


def test_what_is_not_sleep_is_told_as_a_share_and_per_trial():
    # 1000 trials of 0.3 s, two at a time, sleep for 150 s; 30 s more are a fifth, and 0.06 s of a core a trial.
    cost = Overhead(num_trials=1000, sleep=0.3, at_once=2, connect=4.0, first_step=2.0, wall=180.0)
    assert cost.ideal == pytest.approx(150.0)
    assert cost.share == pytest.approx(0.2)
    assert cost.per_trial == pytest.approx(0.06)
    odd = Overhead(num_trials=5, sleep=1.0, at_once=2, connect=0.0, first_step=0.0, wall=3.0)
    assert (odd.ideal, odd.share) == (3.0, 0.0), "the fifth trial sleeps alone"
    assert cost.lines()[-1].split() == ["share", "20.0", "%"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_trials_that_sleep_are_run_recorded_and_timed(tmp_path):
    cost = measure(4, 0.5, with_record=True, scratch=tmp_path)
    names = [mark.name for mark in (tmp_path / "marks").iterdir()]
    assert sum(name.startswith("explore") for name in names) == 4
    assert len(names) == cost.num_trials, "the trials that confirm slept too"
    assert cost.first_step > 0
    assert cost.wall >= cost.first_step + cost.ideal, "no trial sleeps before the first has started"
