"""What a sweep may spend: counted over sessions, kept for the confirmation, and a clean stop when it is gone."""

from __future__ import annotations

import pytest

from helpers.sweeps import SPACE, make_runner
from kgan_ray.settings import UserError
from kgan_ray.tuning.question.sections import Budget
from kgan_ray.tuning.running.budget import Purse, described, parse_budget
from kgan_ray.tuning.state import CONFIRM, EXPLORE, Sweep, Trial, load_sweep


class Clock:
    """Seconds that pass when told to."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def sweep_with(*statuses: str, seconds: float = 10.0, step: int = 50) -> Sweep:
    trials = [
        Trial(name=f"e{k}", stage=EXPLORE, configuration="e", overrides={}, seed=0, status=status, step=step, seconds=seconds)
        for k, status in enumerate(statuses)
    ]  # fmt: skip
    return Sweep(name="s", space={}, settings={"training.steps": 100}, metric="fid", mode="min", trials=trials)


def purse_of(budget: Budget, sweep: Sweep, clock: Clock, to_confirm: int = 0) -> Purse:
    return Purse(budget, sweep, devices=2.0, to_confirm=to_confirm, at_once=2, now=clock)


def test_device_seconds_are_those_that_running_trials_hold():
    clock, sweep = Clock(), sweep_with("running", "finished", "running")
    purse = purse_of(Budget(device_hours=1.0), sweep, clock)
    clock.seconds = 800.0
    purse.tick()
    assert sweep.device_seconds == 800 * 2 * 2
    assert not purse.is_spent(CONFIRM)
    clock.seconds = 900.0
    purse.tick()
    assert purse.is_spent(CONFIRM)
    assert sweep.session_seconds == 900.0


def test_wall_time_counts_earlier_sessions():
    clock, sweep = Clock(), sweep_with()
    sweep.seconds = 100.0
    purse = purse_of(Budget(minutes=3.0, hours=1.0), sweep, clock)
    clock.seconds = 3600 + 179 - 100
    assert not purse.is_spent(CONFIRM)
    clock.seconds += 1
    assert purse.is_spent(CONFIRM)


def test_exploring_leaves_what_the_confirmation_will_need():
    # A whole run takes 20 s (10 s for 50 of 100 steps): 4 of them, 2 at a time, take 40 s and 160 device seconds.
    clock, sweep = Clock(), sweep_with("finished")
    purse = purse_of(Budget(minutes=2.0), sweep, clock, to_confirm=4)
    clock.seconds = 79.0
    assert not purse.is_spent(EXPLORE)
    clock.seconds = 80.0
    assert purse.is_spent(EXPLORE)
    assert not purse.is_spent(CONFIRM)
    by_device = purse_of(Budget(device_hours=0.1), sweep, clock, to_confirm=4)
    sweep.device_seconds = 199.0
    assert not by_device.is_spent(EXPLORE)
    sweep.device_seconds = 200.0
    assert by_device.is_spent(EXPLORE)
    greedy = purse_of(Budget(minutes=2.0), sweep, clock, to_confirm=1000)
    clock.seconds = 80.0 + 59.0
    assert not greedy.is_spent(EXPLORE)  # half of it is for exploring whatever comes after


def test_a_budget_is_given_in_the_file_or_over_it():
    assert described(parse_budget(["hours=2"], Budget(hours=1.0, device_hours=8))) == "2 hours, 8 device hours"
    assert described(Budget()) == ""
    with pytest.raises(UserError, match=r"--budget: hours: found -1, input should be greater than 0"):
        parse_budget(["hours=-1"], Budget())


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_a_spent_budget_ends_the_search_judges_and_can_be_extended(tmp_path, monkeypatch):
    monkeypatch.setenv("STAND_IN_SECONDS", "0.3")
    tree = SPACE | {
        "search": {"algorithm": "random", "num_trials": 500},
        "scheduler": {"type": "none"},
        "confirm": {"top": 1, "seeds": 2},
        "budget": {"minutes": 0.8},
    }
    runner = make_runner(tmp_path, tree)
    is_complete = runner.run()
    explored = runner.sweep.stage(EXPLORE)
    assert 1 <= len(explored) < 100
    assert {trial.status for trial in explored} <= {"finished", "stopped"}
    if not is_complete:  # a slow machine: the budget ended the confirmation as well
        assert runner.is_spent
        assert runner.num_missing() > 0
        sweep = load_sweep(tmp_path)
        assert all(trial.status != "running" for trial in sweep.trials)
        sweep.budget = {"minutes": 30.0}
        sweep.save(tmp_path)
        assert make_runner(tmp_path, tree).run()
    sweep = load_sweep(tmp_path)
    assert [trial.status for trial in sweep.stage(CONFIRM)] == ["finished"] * 4
    assert sweep.stage(EXPLORE) == explored
