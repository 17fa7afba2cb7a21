"""Population based training: who copies whom, how settings vary, and that a schedule beats every constant."""

import json
from random import Random

import pytest

from helpers import stand_in
from helpers.sweeps import make_runner
from kgan_ray.settings import UserError, override, resolve_settings
from kgan_ray.storage import StorePath
from kgan_ray.text import described_schedule
from kgan_ray.tuning.plan import Job
from kgan_ray.tuning.question.domains import parse_domain
from kgan_ray.tuning.question.space import base_settings, parse_space
from kgan_ray.tuning.running.jobs import confirm_jobs, shortened
from kgan_ray.tuning.search.population import (
    Exchange,
    apply_exchanges,
    copy_newest_checkpoint,
    exchanges,
    round_ends,
    varied,
)
from kgan_ray.tuning.search.proposals import draw
from kgan_ray.tuning.state import CONFIRM, EXPLORE, Trial, load_sweep

RATE = "training.generator_learning_rate"
PBT = {
    "preset": "demo",
    "settings": {"training.steps": 100, "evaluation.every_steps": 10},
    "search": {"num_trials": 8},
    "scheduler": {"type": "pbt"},
    "confirm": {"top": 1, "seeds": 2},
    "space": {RATE: {"loguniform": [1e-5, 1e-1]}},
}


def member(name: str, value: float | None, **overrides) -> Trial:
    metrics = {} if value is None else {"fid": value}
    status = "diverged" if value is None else "finished"
    overrides = {RATE: 1e-3} | overrides
    return Trial(
        name=name, stage=EXPLORE, configuration=name, overrides=overrides, seed=0, status=status, metrics=metrics,
        schedule=[(0, overrides)],
    )  # fmt: skip


def exchanged(members: list[Trial], seed: int = 0, mode: str = "min") -> list[Exchange]:
    space = parse_space(PBT, name="f", where="f.yaml")
    return exchanges(members, space.domains, metric="fid", mode=mode, quantile=0.25, random=Random(seed))


def test_the_worst_quarter_copies_the_best_and_so_does_whoever_diverged():
    members = [member(f"m{k}", float(k)) for k in range(8)]
    found = exchanged(members)
    assert [one.loser for one in found] == ["m6", "m7"]
    assert {one.donor for one in found} <= {"m0", "m1"}
    assert [one.loser for one in exchanged(members, mode="max")] == ["m1", "m0"]
    members[0] = member("m0", None)
    found = exchanged(members)
    assert [one.loser for one in found] == ["m6", "m7", "m0"]
    assert {one.donor for one in found} <= {"m1", "m2"}
    few = [*(member(f"m{k}", None) for k in range(6)), member("m6", 6.0), member("m7", 7.0)]
    assert [one.loser for one in exchanged(few)] == [
        "m0",
        "m1",
        "m2",
        "m3",
        "m4",
        "m5",
    ]  # who is copied is not lost
    assert exchanged(members) == found
    with pytest.raises(UserError, match="the whole population diverged"):
        exchanged([member("m0", None), member("m1", None)])


@pytest.mark.parametrize(
    "tree",
    [{"uniform": [0.0, 2.0]}, {"loguniform": [0.5, 2.0]}, {"quniform": [0.0, 2.0, 0.5]}, {"randint": [1, 4]},
     {"lograndint": [1, 100]}, {"choice": [None, 1, 2]}],
)  # fmt: skip
def test_settings_vary_inside_their_domain_and_near_the_donors(tree):
    domain = parse_domain("techniques.label_noise_std", tree, "f.yaml")
    random = Random(0)
    known = domain.draw(random)
    values = [varied({domain.name: known}, [domain], random)[domain.name] for _ in range(300)]
    if domain.kind in ("choice", "quniform", "randint"):
        assert set(values) <= set(domain.listed())
    else:
        assert all(domain.values[0] <= value <= domain.values[1] for value in values)
    assert len(set(values)) > 1
    moved = max(set(values), key=values.count)  # two neighbours get three quarters of the draws between them
    assert values.count(moved) > 0.25 * len(values)


def test_a_member_holds_the_schedule_of_its_weights():
    members = [member("m0", 1.0), member("m1", 2.0, **{RATE: 1e-5})]
    apply_exchanges(members, [Exchange("m1", "m0", {RATE: 2e-3})], 10)
    assert members[1].schedule == [(0, {RATE: 1e-3}), (10, {RATE: 2e-3})]
    assert members[0].schedule == [(0, {RATE: 1e-3}), (10, {RATE: 1e-3})]
    assert (members[1].status, members[1].overrides) == ("waiting", {RATE: 2e-3})
    assert shortened(members[0].schedule) == [(0, {RATE: 1e-3})]
    assert described_schedule(members[1].schedule) == (
        "generator_learning_rate=0.001; from step 10: generator_learning_rate=0.002"
    )


def test_a_copied_checkpoint_is_the_losers_only_one(tmp_path):
    for run, steps in (("donor", (10, 20)), ("loser", (10, 20, 30))):
        for step in steps:
            folder = tmp_path / run / "checkpoints" / f"step-{step:08d}"
            folder.mkdir(parents=True)
            (folder / "state.json").write_text(json.dumps({"of": run, "step": step}))
    for _ in range(2):  # the second time: after an interruption
        copy_newest_checkpoint(tmp_path / "donor", tmp_path / "loser")
        (only,) = (tmp_path / "loser" / "checkpoints").iterdir()
        assert json.loads((only / "state.json").read_text()) == {"of": "donor", "step": 20}
        assert only.name == "step-00000020"
    with pytest.raises(UserError, match="no checkpoint here to copy"):
        copy_newest_checkpoint(tmp_path / "nobody", tmp_path / "loser")


def test_a_schedule_is_run_in_parts_and_a_round_is_the_last_of_them():
    settings = base_settings(parse_space(PBT, name="f", where="f.yaml"), None, {})
    job = Job("m", CONFIRM, "m", {}, 0, schedule=((0, {RATE: 1e-3}), (30, {RATE: 1e-4})))
    parts = [
        (start, part.training.generator_learning_rate, part.training.steps)
        for part, start in job.segments(settings)
    ]
    assert parts == [(0, 1e-3, 30), (30, 1e-4, 100)]
    (last,) = job.segments(override(settings, {"training.steps": 40}), from_step=30)
    assert (last[0].training.steps, last[1]) == (40, 30)
    assert [part.training.steps for part, _ in Job("m", CONFIRM, "m", {}, 0).segments(settings)] == [100]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search": {"num_trials": 3}}, "num_trials: found 3; pbt needs 4 members or more"),
        ({"search": {"algorithm": "tpe"}}, "pbt draws its population at random, found tpe; leave it out"),
        ({"space": {"model.width": {"choice": [0.5, 1.0]}}}, "space.model.width: pbt changes settings in the middle"),
        ({"objective": ["fid", "accuracy"]}, "pbt ranks trials by one number, and there are 2 objectives"),
    ],
)  # fmt: skip
def test_what_a_population_cannot_do_is_refused(changes, message):
    with pytest.raises(UserError) as refusal:
        parse_space(PBT | changes, name="f", where="f.yaml")
    assert message in str(refusal.value)


def test_a_population_has_no_rates_that_fall_by_themselves():
    space = parse_space(PBT, name="f", where="f.yaml")
    assert resolve_settings("demo").training.learning_rate_decay < 1
    assert base_settings(space, "demo", {}).training.learning_rate_decay == 1
    with pytest.raises(
        UserError, match=r"f: training.learning_rate_decay is 0.1, but pbt makes a schedule of its own"
    ):
        base_settings(space, "demo", {"training.learning_rate_decay": 0.1})


def test_the_best_schedule_of_a_simulated_population_beats_its_best_constant_member():
    """Eight members, ten rounds, no Ray: the median over twenty seeds, against the same members without exchanges."""
    ratios = []
    for seed in range(20):
        space = parse_space(PBT | {"search": {"num_trials": 8, "seed": seed}}, name="f", where="f.yaml")
        points = draw(space.domains, 8, seed)
        members = [member(f"m{k}", 1000.0, **point) for k, point in enumerate(points)]
        alone = [1000.0] * 8
        ends = round_ends(space.scheduler, base_settings(space, None, {}))
        for end in ends:
            for k, one in enumerate(members):
                one.metrics["fid"] *= 1 - stand_in.gain(one.overrides[RATE], end - 10)
                alone[k] *= 1 - stand_in.gain(points[k][RATE], end - 10)
                one.status = "finished"
            found = exchanged(members, seed=1000 * seed + end)
            for exchange in found:
                value = next(one.metrics["fid"] for one in members if one.name == exchange.donor)
                next(one for one in members if one.name == exchange.loser).metrics["fid"] = value
            apply_exchanges(members, found, end)
        ratios.append(min(one.metrics["fid"] for one in members) / min(alone))
    assert sorted(ratios)[10] < 0.7


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_population_based_training_finds_a_schedule_that_holds_with_fresh_seeds(tmp_path):
    tree = PBT | {"settings": {"training.steps": 100, "evaluation.every_steps": 25}, "search": {"num_trials": 4}}
    runner = make_runner(tmp_path, tree, trial_function=stand_in.moving_target)
    runner.start()
    assert runner.run()
    sweep = load_sweep(StorePath(tmp_path))
    explored = sweep.stage(EXPLORE)
    assert [(one.status, one.step) for one in explored] == [("finished", 100)] * 4
    assert [[step for step, _ in one.schedule] for one in explored] == [[0, 25, 50, 75]] * 4
    for one in explored:  # the schedule alone explains the loss, whoever trained which part of it
        assert one.metrics["fid"] == pytest.approx(replayed(one.schedule))
    best = min(explored, key=lambda one: one.metrics["fid"])
    (job,) = {one.configuration: one for one in confirm_jobs(sweep, runner.space, runner.settings, 1)
              if one.configuration != "baseline"}.values()  # fmt: skip
    assert job.schedule == tuple(shortened(best.schedule))
    for one in sweep.stage(CONFIRM):
        if one.configuration == best.name:
            assert one.metrics["fid"] == pytest.approx(best.metrics["fid"])
    assert (tmp_path / "trials" / best.name / "checkpoints" / "step-00000100").exists()
    again = make_runner(tmp_path / "again", tree, trial_function=stand_in.moving_target)
    again.sweep.rounds = []
    again.start()
    assert again.run()
    assert [one.schedule for one in again.sweep.stage(EXPLORE)] == [one.schedule for one in explored]


def replayed(schedule: list) -> float:
    loss = 1000.0
    for step in range(0, 100, 25):
        settings = [changes for start, changes in schedule if start <= step][-1]
        loss *= 1 - stand_in.gain(settings[RATE], step)
    return loss
