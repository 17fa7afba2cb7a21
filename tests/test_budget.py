"""What a sweep may spend: counted over sessions, kept for the confirmation, and a clean stop when it is gone."""

from __future__ import annotations

import pytest

from helpers.sweeps import SPACE, make_runner
from kgan_ray.storage import StorePath
from kgan_ray.tuning.question.sections import Budget
from kgan_ray.tuning.running.budget import BudgetMeter
from kgan_ray.tuning.running.jobs import num_missing
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


def meter_of(budget: Budget, sweep: Sweep, clock: Clock, to_confirm: int = 0) -> BudgetMeter:
    return BudgetMeter(budget, sweep, devices=2.0, to_confirm=to_confirm, at_once=2, now=clock)


def test_device_seconds_are_those_that_running_trials_hold():
    clock, sweep = Clock(), sweep_with("running", "finished", "running")
    meter = meter_of(Budget(device_hours=1.0), sweep, clock)
    clock.seconds = 800.0
    meter.tick()
    assert sweep.device_seconds == 800 * 2 * 2
    assert not meter.is_spent(CONFIRM)
    clock.seconds = 900.0
    meter.tick()
    assert meter.is_spent(CONFIRM)
    assert sweep.session_seconds == 900.0


def test_wall_time_counts_earlier_sessions():
    clock, sweep = Clock(), sweep_with()
    sweep.seconds = 100.0
    meter = meter_of(Budget(minutes=3.0, hours=1.0), sweep, clock)
    clock.seconds = 3600 + 179 - 100
    assert not meter.is_spent(CONFIRM)
    clock.seconds += 1
    assert meter.is_spent(CONFIRM)


def test_whole_runs_tell_how_long_one_takes_and_shorter_ones_only_before():
    sweep = sweep_with("stopped", "stopped", seconds=10.0, step=20)  # most of which was their beginning
    meter = meter_of(Budget(minutes=1.0), sweep, Clock())
    assert not meter.has_room_for(4)
    sweep.trials += sweep_with("finished", seconds=30.0, step=100).trials
    assert meter.has_room_for(4)
    assert not meter.has_room_for(5)


def test_the_session_may_have_begun_before_its_trials():
    clock, sweep = Clock(), sweep_with()
    clock.seconds = 100.0
    meter = BudgetMeter(Budget(minutes=2.0), sweep, devices=1.0, to_confirm=0, at_once=2, started=30.0, now=clock)
    clock.seconds = 149.0
    assert not meter.is_spent(CONFIRM)
    clock.seconds = 150.0
    assert meter.is_spent(CONFIRM)


def test_room_is_counted_in_waves_of_trials_and_in_devices():
    clock, sweep = Clock(), sweep_with("finished")  # 20 s for a whole run, two at a time
    meter = meter_of(Budget(minutes=1.0), sweep, clock)
    assert (meter.has_room_for(6), meter.has_room_for(7)) == (True, False)
    meter = meter_of(Budget(device_hours=1 / 36), sweep, clock)  # two devices each for 20 s: 100 s are two runs
    assert (meter.has_room_for(2), meter.has_room_for(3)) == (True, False)


def test_exploring_leaves_what_the_confirmation_will_need():
    # A whole run takes 20 s (10 s for 50 of 100 steps): 4 of them, 2 at a time, take 40 s and 160 device seconds.
    clock, sweep = Clock(), sweep_with("finished")
    meter = meter_of(Budget(minutes=2.0), sweep, clock, to_confirm=4)
    clock.seconds = 79.0
    assert not meter.is_spent(EXPLORE)
    clock.seconds = 80.0
    assert meter.is_spent(EXPLORE)
    assert not meter.is_spent(CONFIRM)
    by_device = meter_of(Budget(device_hours=0.1), sweep, clock, to_confirm=4)
    sweep.device_seconds = 199.0
    assert not by_device.is_spent(EXPLORE)
    sweep.device_seconds = 200.0
    assert by_device.is_spent(EXPLORE)
    greedy = meter_of(Budget(minutes=2.0), sweep, clock, to_confirm=1000)
    clock.seconds = 80.0 + 59.0
    assert not greedy.is_spent(EXPLORE)  # half of it is for exploring whatever comes after


def test_a_budget_reads_as_people_say_it():
    assert str(Budget(hours=2, device_hours=8.5)) == "2 hours, 8.5 device hours"
    assert str(Budget()) == ""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_budget_ends_the_search_and_what_it_leaves_the_confirmation_can_be_extended(tmp_path, monkeypatch):
    """Trials of a second, of which there are thousands, in a minute: the clock alone ends both stages."""
    monkeypatch.setenv("STAND_IN_SECONDS", "0.3")
    tree = SPACE | {
        "search": {"algorithm": "random", "num_trials": 2000},
        "scheduler": {"type": "none"},
        "confirm": {"top": 1, "seeds": 200},
        "budget": {"minutes": 1.0},
    }
    runner = make_runner(tmp_path, tree)
    runner.start()
    assert not runner.run()
    assert runner.is_spent
    assert num_missing(runner.sweep, runner.space) > 0
    sweep = load_sweep(StorePath(tmp_path))
    explored = sweep.stage(EXPLORE)
    assert 1 <= len(explored) < 100
    assert {trial.status for trial in explored} <= {"finished", "stopped"}
    assert all(trial.status != "running" for trial in sweep.trials)
    confirmed = [trial for trial in sweep.stage(CONFIRM) if trial.status == "finished"]
    assert len(confirmed) + num_missing(runner.sweep, runner.space) == 400

    assert sum(sweep.rounds) == 200
    num_judged = sweep.rounds[0] if "confirm-1" in sweep.done else 0
    assert len(confirmed) // 2 - num_judged in (0, 1)  # the seeds that both configurations have run make a round

    sweep.budget, sweep.rounds, sweep.done = {"minutes": 30.0}, [2], ["explore"]
    first, *others = sweep.stage(CONFIRM)[:4]  # two seeds of both configurations
    for trial in others:
        trial.status = "interrupted"
    sweep.trials = [*explored, first, *others]
    sweep.save(StorePath(tmp_path))
    more = make_runner(tmp_path, tree)
    more.start()
    assert more.run()
    sweep = load_sweep(StorePath(tmp_path))
    assert len(sweep.stage(CONFIRM)) >= 4  # more where two seeds did not decide
    assert {trial.status for trial in sweep.stage(CONFIRM)} == {"finished"}
    assert sweep.stage(EXPLORE) == explored
