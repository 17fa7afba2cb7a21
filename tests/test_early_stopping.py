"""Which explored trials end early, and that a later session judges them as the first one would have."""

import math
from types import SimpleNamespace

import pytest

from kgan_ray.tuning.question.space import base_settings, parse_space
from kgan_ray.tuning.running.estimate import explored_share
from kgan_ray.tuning.search.early_stopping import bracket_shares, early_stopping
from kgan_ray.tuning.search.proposals import OBJECTIVE
from kgan_ray.tuning.state import Trial

STEPS = {"training.steps": 900, "evaluation.every_steps": 100}


def space_with(scheduler: dict):
    tree = {"preset": "demo", "space": {"techniques.pooling": {"choice": ["avg", "max"]}}, "scheduler": scheduler}
    space = parse_space(tree, name="f", where="f.yaml")
    return space, base_settings(space, None, STEPS)


class TunesTrial(SimpleNamespace):
    """What ASHA asks of Ray Tune's trial."""

    def __str__(self) -> str:
        return self.name


def judged(scheduler, name: str, curve: list[tuple[int, float]]) -> str:
    """What the scheduler says at the end of the curve of a trial that Tune starts now."""
    trial = TunesTrial(name=name, trial_id=f"{name} of this session")
    scheduler.on_trial_add(None, trial)
    return [scheduler.on_trial_result(None, trial, {"step": step, OBJECTIVE: value}) for step, value in curve][-1]


@pytest.mark.parametrize("kind", ["asha", "hyperband"])
def test_a_later_session_judges_by_what_earlier_ones_measured(kind):
    space, settings = space_with({"type": kind, "reduction_factor": 3})
    names = [f"explore-{number:02d}" for number in range(1, 7)]
    curves = {name: [(100, 10.0 * number), (300, 9.0 * number)] for number, name in enumerate(names, 1)}
    undisturbed = early_stopping(space.scheduler, settings, "min")
    for name, curve in curves.items():
        judged(undisturbed, name, curve)
    earlier = [
        Trial(name=name, stage="explore", configuration=name, overrides={}, seed=0, status="stopped", curve=curve)
        for name, curve in curves.items()
    ]
    earlier[3].status = "running"  # and is started again
    resumed = early_stopping(space.scheduler, settings, "min", earlier=earlier)
    assert judged(resumed, "explore-04", [(600, 36.0)]) == judged(undisturbed, "explore-04", [(600, 36.0)])
    for name, value in (("bad", 100.0), ("good", 1.0)):
        assert judged(resumed, name, [(100, value)]) == judged(undisturbed, name, [(100, value)])
    assert rung_values(resumed) == rung_values(undisturbed)


def rung_values(scheduler) -> list[list[float]]:
    return [sorted(rung.values()) for bracket in scheduler._brackets for _, rung in bracket._rungs]


def test_a_poor_trial_ends_after_a_resume_and_would_not_without_the_earlier_ones():
    space, settings = space_with({"type": "asha", "reduction_factor": 3})
    earlier = [
        Trial(name=f"e{k}", stage="explore", configuration="e", overrides={}, seed=0, status="stopped", curve=[(100, 5.0 + k)])
        for k in range(4)
    ]  # fmt: skip
    assert (
        judged(early_stopping(space.scheduler, settings, "min", earlier=earlier), "poor", [(100, 50.0)]) == "STOP"
    )
    assert judged(early_stopping(space.scheduler, settings, "min"), "poor", [(100, 50.0)]) == "CONTINUE"


def test_the_first_trial_is_judged_again_once_others_have_come():
    """It passed the first rung with nobody beside it; of two that run together, one is hopeless."""
    space, settings = space_with({"type": "asha", "reduction_factor": 3})
    scheduler = early_stopping(space.scheduler, settings, "min")
    hopeless, good = (TunesTrial(name=name, trial_id=name) for name in ("hopeless", "good"))
    said = []
    for step in (100, 200):
        for trial, value in ((hopeless, 15000.0), (good, 600.0)):
            if not said:
                scheduler.on_trial_add(None, hopeless)
                scheduler.on_trial_add(None, good)
            said.append(scheduler.on_trial_result(None, trial, {"step": step, OBJECTIVE: value}))
    assert said == ["CONTINUE", "CONTINUE", "STOP", "CONTINUE"]
    assert (
        scheduler.on_trial_result(None, good, {"step": 900, OBJECTIVE: 16000.0}) == "CONTINUE"
    )  # it has ended anyway


def test_the_first_trial_is_judged_by_what_earlier_sweeps_explored():
    space, settings = space_with({"type": "asha", "reduction_factor": 3})
    past = [
        Trial(name="explore-01", stage="explore", configuration="e", overrides={}, seed=0, status="stopped", curve=[(100, 5.0 + k)])
        for k in range(4)
    ]  # fmt: skip
    for value, said in ((15000.0, "STOP"), (4.0, "CONTINUE")):
        scheduler = early_stopping(space.scheduler, settings, "min", past=past)
        assert judged(scheduler, "explore-01", [(100, value)]) == said


def test_hyperband_spreads_its_trials_over_brackets_that_judge_later_and_later():
    space, settings = space_with({"type": "hyperband"})
    parts = bracket_shares(space.scheduler, settings)
    assert len(parts) == 2  # rungs at 100 and 300
    assert parts == pytest.approx([math.e / (math.e + 1), 1 / (math.e + 1)])
    asha = bracket_shares(space.scheduler.model_copy(update={"type": "asha"}), settings)
    assert asha == [1.0]
    first = 100 / 900 + (200 / 900) / 3 + (600 / 900) / 9
    second = 300 / 900 + (600 / 900) / 3
    assert explored_share(space.scheduler, settings) == pytest.approx(parts[0] * first + parts[1] * second)
    scheduler = early_stopping(space.scheduler, settings, "min")
    assert [[milestone for milestone, _ in bracket._rungs] for bracket in scheduler._brackets] == [
        [900, 300, 100], [900, 300],
    ]  # fmt: skip
