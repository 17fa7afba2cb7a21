"""What the terminal says of a sweep that runs."""

import pytest

from kgan_ray.text import number, with_spread
from kgan_ray.tuning.running.terminal import Display
from kgan_ray.tuning.state import Sweep, Trial


def trial(status: str, step: int, seconds: float) -> Trial:
    return Trial(
        name=f"{status}-{step}", stage="explore", configuration="c", overrides={}, seed=0,
        status=status, step=step, seconds=seconds,
    )  # fmt: skip


def display(trials: list[Trial], *, total: int) -> Display:
    settings = {"training.steps": 600}
    sweep = Sweep(name="s", space={}, settings=settings, metric="fid", mode="min", trials=trials)
    return Display(sweep, total=total, board=None, at_once=2, guess=1000.0)


def test_time_left_is_the_estimate_until_a_whole_run_has_been_trained():
    assert display([trial("running", 300, 30.0)], total=4).seconds_left() == pytest.approx(1000, abs=5)
    assert display([trial("finished", 600, 60.0)], total=4).seconds_left() == 90.0  # three more, two at a time


def test_time_left_counts_what_running_trials_have_trained():
    shown = display([trial("finished", 600, 60.0), trial("running", 300, 30.0)], total=4)
    assert shown.seconds_left() == 75.0


def test_members_that_finished_a_round_have_trained_a_part():
    shown = display([trial("finished", 100, 10.0)] * 4 + [trial("waiting", 100, 10.0)] * 4, total=8)
    assert shown.seconds_left() == pytest.approx(
        200
    )  # eight runs of a minute, a sixth of each is done, two at a time
    shown.console.width = 200  # in one line
    with shown.console.capture() as said:
        shown.console.print(shown._render())
    assert "0 of 8 trials" in said.get()


def test_a_trial_that_was_stopped_early_is_a_whole_one():
    shown = display([trial("stopped", 100, 10.0), trial("failed", 0, 2.0)], total=4)
    assert shown.seconds_left() == 6.0


@pytest.mark.parametrize(
    ("mean", "deviation", "shown"),
    [
        (2950.4, 1766.2, "2950 ± 1766"),
        (136.64, 10.08, "137 ± 10"),
        (0.62134, 0.0686, "0.621 ± 0.069"),
        (0.1, 1.7e-17, "0.1000 ± 0.0000"),
        (0.1, 0.0, "0.1000 ± 0.0000"),
        (12588.8, None, "12589"),
        (None, None, "-"),
    ],
)
def test_a_mean_and_its_deviation_end_at_the_same_place(mean, deviation, shown):
    assert with_spread(mean, deviation) == shown


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [
        (12588.8, 4, "12589"),
        (9999.7, 4, "10000"),
        (-2345.6, 3, "-2346"),
        (0.29153, 3, "0.292"),
        (2.5e7, 4, "2.5e+07"),
        (float("nan"), 4, "-"),
    ],
)
def test_numbers_below_a_million_have_no_exponent_however_few_digits(value, digits, shown):
    assert number(value, digits) == shown
