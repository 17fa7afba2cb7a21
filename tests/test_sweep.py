"""The sweep's stages on a real Ray, with a cheap objective in place of training."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from helpers import stand_in
from helpers.checkpoints import made_on_a_gpu
from helpers.loops import run
from helpers.processes import wait_for
from helpers.stores import new_store
from helpers.sweeps import SPACE, make_runner, mlflow_runs, num_finished, start_sweep
from kgan_ray.settings import UserError, override
from kgan_ray.storage import StorePath
from kgan_ray.tuning.answer.comparison import check_comparable
from kgan_ray.tuning.answer.results import Results
from kgan_ray.tuning.question.space import base_settings, parse_space
from kgan_ray.tuning.running.budget import BudgetMeter
from kgan_ray.tuning.running.jobs import changes_of_device, confirm_jobs, cut_round, explore_jobs
from kgan_ray.tuning.running.recorder import FAILURE_ARTIFACT
from kgan_ray.tuning.running.trial import FAILURE_FILE, failure_recorded, open_run, was_started
from kgan_ray.tuning.search.candidates import best_explored, described_front, explored_front
from kgan_ray.tuning.search.population import Round
from kgan_ray.tuning.search.proposals import draw
from kgan_ray.tuning.state import CONFIRM, EXPLORE, Sweep, Trial, load_sweep


def trial(name: str, overrides: dict, value: float, step: int = 30, **more) -> Trial:
    status = more.pop("status", "finished")
    return Trial(
        name=name,
        stage=more.pop("stage", EXPLORE),
        configuration=more.pop("configuration", name),
        overrides=overrides,
        seed=more.pop("seed", 0),
        status=status,
        step=step,
        metrics={"fid": value},
        **more,
    )


def test_the_best_are_distinct_and_are_not_the_baseline(tmp_path):
    runner = make_runner(tmp_path)
    runner.sweep.trials = [
        trial("e1", {"techniques.pooling": "avg"}, 1.0),  # the baseline under another name
        trial("e2", {"techniques.pooling": "max"}, 2.0),
        trial("e3", {"techniques.pooling": "max", "techniques.input_noise_std": 0.0}, 3.0),  # the same as e2
        trial("e4", {"techniques.label_noise_std": 0.5}, 9.0),
        trial("e5", {"techniques.label_noise_std": 0.7}, 0.5, step=10, status="stopped"),
        trial("e6", {"techniques.label_noise_std": 0.9}, 0.1, status="diverged"),
    ]
    assert [found.name for found in best_explored(runner.sweep, runner.settings, 2)] == ["e2", "e4"]
    assert [found.name for found in best_explored(runner.sweep, runner.settings, 9)] == ["e2", "e4", "e5"]


def test_of_several_objectives_the_fronts_best_by_the_first_are_confirmed(tmp_path):
    tree = SPACE | {"objective": ["fid", "accuracy"], "scheduler": {"type": "none"}}
    runner = make_runner(tmp_path, tree)
    points = {"e1": (5.0, 0.2), "e2": (9.0, 0.9), "e3": (6.0, 0.1), "e4": (7.0, 0.5), "e5": (1.0, None)}
    for number, (name, (fid, accuracy)) in enumerate(points.items()):
        explored = trial(name, {"techniques.label_noise_std": 0.1 * (number + 1)}, fid)
        explored.metrics |= {} if accuracy is None else {"accuracy": accuracy}
        runner.sweep.trials.append(explored)
    front = explored_front(runner.sweep)
    assert front == ["e1", "e4", "e2"]  # e1 beats e3 in both; e5 was never measured in full
    assert [found.name for found in best_explored(runner.sweep, runner.settings, 2)] == ["e1", "e4"]
    assert described_front(runner.sweep, front) == (
        "the best by fid of the 3 configurations on the Pareto front of fid and accuracy"
    )


def test_confirmation_uses_fresh_seeds_and_later_rounds_others(tmp_path):
    runner = make_runner(tmp_path)
    runner.sweep.trials = [trial("e2", {"techniques.pooling": "max"}, 2.0)]
    runner.sweep.rounds = [2, 1]
    first, second, third = (runner.sweep.confirmation_seed(index) for index in range(3))
    assert len({first, second, third, runner.settings.seed}) == 4
    jobs = confirm_jobs(runner.sweep, runner.space, runner.settings, 1)
    assert [(job.configuration, job.seed) for job in jobs] == [
        ("baseline", first), ("e2", first), ("baseline", second), ("e2", second),
    ]  # fmt: skip
    assert {job.seed for job in confirm_jobs(runner.sweep, runner.space, runner.settings, 2)} == {third}


def test_no_two_sweeps_share_a_seed_and_the_same_sweep_has_the_same():
    space = parse_space(SPACE, name="test", where="test.yaml")
    other = parse_space(SPACE | {"search": {"num_trials": 7}}, name="test", where="test.yaml")
    settings = base_settings(space, None, {})
    sweeps = [
        Sweep.of(space, settings), Sweep.of(space, override(settings, {"seed": 1})), Sweep.of(space, settings, name="b"),
        Sweep.of(other, settings),
    ]  # fmt: skip
    seeds = [[sweep.confirmation_seed(index) for index in range(12)] for sweep in sweeps]
    assert len({seed for own in seeds for seed in own}) == 4 * 12
    assert [Sweep.of(space, settings).confirmation_seed(index) for index in range(12)] == seeds[0]


def test_a_record_of_format_2_keeps_its_seeds_and_its_comparison(tmp_path):
    runner = make_runner(tmp_path)
    runner.sweep.trials = [trial("e2", {"techniques.pooling": "max"}, 2.0)]
    runner.sweep.save(StorePath(tmp_path))
    record = json.loads((tmp_path / "sweep.json").read_text()) | {"format_version": 2}
    assert record.pop("compare") == "ratio"
    del record["seed_key"]
    (tmp_path / "sweep.json").write_text(json.dumps(record))
    old = load_sweep(StorePath(tmp_path))
    assert (old.compare, old.format_version) == ("difference", 4)
    assert [job.seed for job in confirm_jobs(old, runner.space, runner.settings, 1)][::2] == [1000, 1001, 1002]
    record["space"]["confirm"]["compare"] = "ratio"
    (tmp_path / "sweep.json").write_text(json.dumps(record))
    assert load_sweep(StorePath(tmp_path)).compare == "ratio"


def test_a_round_that_is_cut_short_is_judged_on_the_seeds_that_all_have_run(tmp_path):
    runner = make_runner(tmp_path)
    runner.sweep.trials = [trial("e2", {"techniques.pooling": "max"}, 2.0)]
    jobs = confirm_jobs(runner.sweep, runner.space, runner.settings, 1)
    runner.sweep.trials += [
        trial(job.name, {}, 5.0, stage=CONFIRM, configuration=job.configuration, seed=job.seed) for job in jobs
    ]
    runner.sweep.trials[-1].status = "interrupted"
    assert cut_round(runner.sweep, 1, jobs)
    assert runner.sweep.rounds == [2, 1]
    assert [job.name for job in confirm_jobs(runner.sweep, runner.space, runner.settings, 2)] == [
        job.name for job in jobs[-2:]
    ]
    runner.sweep.done = ["confirm-1"]
    results = Results(runner.sweep)
    assert [(row.finished, row.waiting) for row in results.rows] == [(2, 1), (2, 0)]
    assert not cut_round(runner.sweep, 2, jobs[-2:])


def sweep_after_one_round(runner, *, e2: float) -> None:
    """Fill the record: `e1` is far from the baseline in every run, `e2` is `e2` times it but for noise."""
    runner.sweep.trials = [
        trial("e1", {"techniques.pooling": "max"}, 1.0),
        trial("e2", {"techniques.label_noise_std": 0.5}, 2.0),
    ]
    values = {"baseline": (100.0, 110.0, 90.0), "e1": (1.0, 1.1, 0.9), "e2": (110.0 * e2, 90.0 * e2, 80.0 * e2)}
    jobs = confirm_jobs(runner.sweep, runner.space, runner.settings, 1)
    seeds = list(dict.fromkeys(job.seed for job in jobs))
    for job in jobs:
        more = {"stage": CONFIRM, "configuration": job.configuration, "seed": job.seed}
        more |= {"dataset": "d", "extractor": "e"}
        value = values[job.configuration][seeds.index(job.seed)]
        runner.sweep.trials.append(trial(job.name, job.overrides, value, **more))
    runner.sweep.done = ["explore", "confirm-1"]
    runner._meter = BudgetMeter(runner.budget, runner.sweep, devices=1.0, to_confirm=0, at_once=2)


ROUNDS = {"confirm": {"top": 2, "seeds": 3, "most_seeds": 8, "margin": 1.05}}


def test_a_further_round_is_for_the_undecided_and_the_baseline_and_the_record_repeats_it(tmp_path):
    said = []
    runner = make_runner(tmp_path, SPACE | ROUNDS, announce=said.append)
    sweep_after_one_round(runner, e2=0.9)
    assert [one.word for one in Results(runner.sweep).verdicts] == ["better", "can't tell"]
    assert runner.most_confirmed == 9 + 5 * 2
    assert runner._add_round()
    assert (runner.sweep.rounds, said) == ([3, 4], ["confirm: 6 more runs, 2 of baseline, 4 of e2"])
    jobs = confirm_jobs(runner.sweep, runner.space, runner.settings, 2)
    assert [job.configuration for job in jobs] == ["baseline", "e2"] * 2 + ["e2"] * 2  # whose runs deviate more
    assert len(runner.sweep.stage(CONFIRM)) == 9 + 6
    assert runner.num_trials == 6 + 15
    runner.sweep.save(StorePath(tmp_path))
    again = make_runner(tmp_path, SPACE | ROUNDS)
    assert confirm_jobs(again.sweep, again.space, again.settings, 2) == jobs
    for one in runner.sweep.trials[-6:]:
        one.status, one.metrics = "finished", {"fid": 70.0 + one.seed % 60}
    runner.sweep.done.append("confirm-2")
    assert [one.comparison.look for one in Results(runner.sweep).verdicts] == [1, 2]
    assert runner._add_round()
    assert runner.sweep.rounds == [3, 4, 1]  # eight seeds at most
    runner.sweep.done.append("confirm-3")
    assert not runner._add_round()
    runner.sweep.rounds.append(1)  # --add-seeds is for everybody
    asked = confirm_jobs(runner.sweep, runner.space, runner.settings, 4)
    assert [job.configuration for job in asked] == ["baseline", "e1", "e2"]


def test_no_further_round_where_all_is_decided_or_one_was_asked_for(tmp_path):
    runner = make_runner(tmp_path, SPACE | ROUNDS)
    sweep_after_one_round(runner, e2=0.01)
    assert not runner._add_round()
    one = make_runner(tmp_path / "one")
    sweep_after_one_round(one, e2=0.9)
    assert not one._add_round()
    assert (runner.is_spent, one.is_spent) == (False, False)


@pytest.mark.parametrize(("minutes", "runs"), [(0.9, 0), (1.5, 2), (2.5, 4), (60.0, 6)])
def test_a_further_round_has_as_many_runs_as_the_budget_has_room_for(tmp_path, minutes, runs):
    """A run takes a minute, and two run at a time."""
    runner = make_runner(tmp_path, SPACE | ROUNDS | {"budget": {"minutes": minutes}})
    sweep_after_one_round(runner, e2=0.9)
    for one in runner.sweep.trials:
        one.seconds = 60.0
    assert runner._add_round() == (runs > 0)
    assert len(runner.sweep.stage(CONFIRM)) == 9 + runs
    assert len(runner.sweep.rounds) == 1 + (runs > 0)
    assert runner.is_spent == (runs == 0)


def test_a_record_of_format_3_had_one_look_and_no_margin(tmp_path):
    runner = make_runner(tmp_path, SPACE | ROUNDS)
    sweep_after_one_round(runner, e2=0.9)
    assert (runner.sweep.planned_looks, runner.sweep.margin) == (3, 1.05)
    runner.sweep.save(StorePath(tmp_path))
    record = json.loads((tmp_path / "sweep.json").read_text()) | {"format_version": 3}
    del record["planned_looks"], record["margin"]
    (tmp_path / "sweep.json").write_text(json.dumps(record))
    old = load_sweep(StorePath(tmp_path))
    assert (old.planned_looks, old.margin, old.format_version) == (1, None, 4)


def test_configurations_are_repeated_in_every_group(tmp_path):
    tree = {key: SPACE[key] for key in ("settings", "preset", "objective", "confirm")} | {
        "groups": {"xsub": {"data.benchmark": "xsub"}, "xview": {"data.benchmark": "xview"}},
        "configurations": {"baseline": {}, "A": {"techniques.pooling": "max"}},
    }
    runner = make_runner(tmp_path, tree)
    jobs = confirm_jobs(runner.sweep, runner.space, runner.settings, 1)
    assert len(jobs) == 2 * 2 * 3
    assert len({job.name for job in jobs}) == len(jobs)
    assert jobs[3].overrides == {"data.benchmark": "xview", "techniques.pooling": "max"}


def test_a_group_with_steps_of_its_own_is_trained_to_their_end(tmp_path):
    """What a run stores in MLflow at its end is stored at that of its own steps, not of the sweep's."""
    runner = make_runner(tmp_path)
    longer = override(runner.settings, {"training.steps": 50})
    assert runner._plan(CONFIRM, [], None).total_steps(longer) == 50
    round_of_population = Round(1, 3, 0, 10)
    assert runner._plan(EXPLORE, [], round_of_population).total_steps(longer) == 30


def test_explored_runs_never_count_as_evidence(tmp_path):
    runner = make_runner(tmp_path)
    confirmed = [
        trial(f"c-{name}-{seed}", {}, value + seed, stage=CONFIRM, configuration=name, seed=seed)
        for name, value in (("baseline", 100.0), ("e1", 50.0))
        for seed in range(3)
    ]
    explored = [trial("e1", {}, -1e6), trial("e2", {}, 1e6)]
    runner.sweep.trials, runner.sweep.done = [*explored, *confirmed], ["explore", "confirm-1"]
    (verdict,) = Results(runner.sweep).verdicts
    assert (verdict.configuration, verdict.effect, verdict.word) == (
        "e1",
        pytest.approx(51 / 101, rel=1e-4),
        "better",
    )
    assert verdict.sentence.startswith("e1 is better than the baseline: fid 0.505 times, between 0.48 and 0.531")
    for one in confirmed:
        one.group = "xview"
    (verdict,) = Results(runner.sweep).verdicts
    assert verdict.sentence.startswith("xview e1 is better")


def test_twenty_simulated_sweeps_find_the_planted_effect_and_raise_no_false_alarm():
    """Explore, choose the best, confirm, judge: the rate was planted to matter, the auxiliary weight was not."""
    useless = {f"weight-{weight}": {"training.auxiliary_weight": weight} for weight in (1.5, 2.0, 3.0)}
    found, alarms = 0, 0
    for number in range(20):
        slow = {"training.generator_learning_rate": 2e-6}  # the baseline's: two decades below the best
        rates = {"preset": "demo", "settings": slow, "confirm": {"top": 1, "seeds": 5}, "space": SPACE["space"]}
        given = {"preset": "demo", "confirm": {"seeds": 5}, "configurations": {"baseline": {}, **useless}}
        found += any(word == "better" for word in simulated_verdicts(rates, number))
        alarms += any(word != "can't tell" for word in simulated_verdicts(given, number))
    assert found == 20
    assert alarms <= 1  # of 20 sweeps, three comparisons each: 5 %


def simulated_verdicts(tree: dict, number: int) -> list[str]:
    """The verdicts of a sweep whose runs take no time, 12 explored; its seeds are of its own."""
    space = parse_space(tree, name="test", where="test.yaml")
    settings = override(base_settings(space, None, {}), {"seed": 10_000 * number})
    sweep = Sweep(
        name="s", space=tree, settings=settings, metric="fid", mode="min", rounds=[5], done=["confirm-1"]
    )
    for index, point in enumerate(draw(space.domains, 12, seed=number) if space.domains else []):
        value = stand_in.objective(override(settings, point))
        sweep.trials.append(trial(f"explore-{index}", point, value))
    for job in confirm_jobs(sweep, space, settings, 1):
        value = stand_in.objective(override(settings, {**job.overrides, "seed": job.seed}))
        more = {"stage": CONFIRM, "configuration": job.configuration, "seed": job.seed}
        sweep.trials.append(trial(job.name, dict(job.overrides), value, **more))
    return [verdict.word for verdict in Results(sweep).verdicts]


def test_a_trials_run_names_its_dataset_and_is_found_again(tmp_path):
    from mlflow import MlflowClient

    runner = make_runner(tmp_path, uri=new_store(tmp_path), tags={"dataset": "d" * 64})
    runner.sweep.dataset = "datasets/demo"
    (job, *_) = explore_jobs([{"training.auxiliary_weight": 2.0}], seed=0)
    plan = runner._plan(EXPLORE, [job], None)
    first, again = (open_run(plan, job, runner.settings, tmp_path / job.name) for _ in range(2))
    assert first.id == again.id
    (logged,) = MlflowClient(runner.sweep.uri).get_run(first.id).inputs.dataset_inputs
    assert (logged.dataset.name, logged.dataset.digest) == ("demo", "d" * 36)


def test_a_trial_that_was_killed_before_its_run_was_open_gets_one(tmp_path):
    runner = make_runner(tmp_path, uri=new_store(tmp_path))
    (job, *_) = explore_jobs([{}], seed=0)
    plan = runner._plan(EXPLORE, [job], None)
    assert not was_started(tmp_path / job.name)
    first, again = (open_run(plan, job, runner.settings, tmp_path / job.name) for _ in range(2))
    assert first.id == again.id


def test_trials_that_go_on_on_another_kind_of_device_are_named(tmp_path, tiny):
    runner = make_runner(tmp_path)
    for name, status in (("explore-01", "finished"), ("explore-02", "interrupted"), ("explore-03", "interrupted")):
        runner.sweep.trials.append(trial(name, {}, 1.0, status=status))
        if name != "explore-03":
            run(override(tiny, {"training.steps": 2}), tmp_path / "trials" / name)
            made_on_a_gpu(tmp_path / "trials" / name / "checkpoints")
    (line,) = changes_of_device(runner.sweep, runner.folder, "cpu")
    assert line.startswith("explore-02 goes on from step 2 on cpu, before on cuda: random numbers are drawn anew")
    assert changes_of_device(runner.sweep, runner.folder, "cuda") == []


def test_runs_measured_differently_are_not_ranked_together():
    one, other = trial("a", {}, 1.0, extractor="e" * 64), trial("b", {}, 1.0, extractor="f" * 64)
    with pytest.raises(UserError, match="a and b cannot be ranked together: their extractor differs"):
        check_comparable([one, other])


def test_a_record_is_saved_whole_and_a_newer_one_is_refused(tmp_path):
    runner = make_runner(tmp_path)
    runner.sweep.trials = [trial("e1", {"techniques.mask_quantile": None}, 1.0)]
    runner.sweep.save(StorePath(tmp_path))
    assert load_sweep(StorePath(tmp_path)) == runner.sweep
    assert [file.name for file in tmp_path.iterdir()] == ["sweep.json"]
    (tmp_path / "sweep.json").write_text(json.dumps({"format_version": 99}))
    with pytest.raises(UserError, match=r"newer kgan_ray \(format 99\)"):
        load_sweep(StorePath(tmp_path))


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA", "ValueError: CUDA error: out of memory"),
        (
            "Traceback (most recent call last):\n  here\nOSError: no space left",
            "ValueError: OSError: no space left",
        ),
        ("", "ValueError: "),
    ],
)
def test_a_trial_that_raises_leaves_one_line_behind_until_it_is_tried_again(tmp_path, message, line):
    folder = tmp_path / "trials" / "explore-01"
    with pytest.raises(ValueError), failure_recorded(folder):
        raise ValueError(message)
    assert (folder / FAILURE_FILE).read_text() == line
    with failure_recorded(folder):
        assert list(folder.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_whole_sweep_finds_the_planted_effect(tmp_path):
    uri = new_store(tmp_path)
    ended = []
    runner = make_runner(tmp_path / "sweep", uri=uri, on_trial_end=ended.append)
    runner.start()
    assert runner.run()
    sweep = load_sweep(StorePath(tmp_path / "sweep"))
    assert len(sweep.stage(EXPLORE)) == 6
    assert len(sweep.stage(CONFIRM)) == 9
    assert len(ended) == 15
    assert {one.status for one in sweep.stage(EXPLORE)} <= {"finished", "stopped"}
    assert {one.status for one in sweep.stage(CONFIRM)} == {"finished"}
    assert all(len(one.curve) == 3 for one in sweep.stage(CONFIRM))
    assert len(Results(sweep).verdicts) == 2
    runs = mlflow_runs(uri)
    assert sorted(runs) == sorted(["test", *(one.name for one in sweep.trials)])
    for one in sweep.trials:
        assert runs[one.name].data.tags["outcome"] == one.status
        assert runs[one.name].data.tags["mlflow.parentRunId"] == sweep.parent_id
        assert runs[one.name].data.params["training.generator_learning_rate"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_sweep_of_two_objectives_ends_with_verdicts_on_the_first(tmp_path):
    said = []
    tree = SPACE | {
        "objective": ["fid", "accuracy"],
        "search": {"algorithm": "nsga2", "num_trials": 4},
        "scheduler": {"type": "none"},
        "confirm": {"top": 1, "seeds": 2},
    }
    runner = make_runner(tmp_path, tree, announce=said.append)
    runner.start()
    assert runner.run()
    front = explored_front(load_sweep(StorePath(tmp_path)))
    assert front
    assert any("on the Pareto front of fid and accuracy" in line for line in said)
    assert [verdict.configuration for verdict in Results(runner.sweep).verdicts] == front[:1]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_failures_are_recorded_and_stop_nothing(tmp_path):
    tree = SPACE | {
        "space": {"training.gradient_penalty": {"choice": [10.0, 666.0, 667.0, 668.0]}},
        "search": {"algorithm": "grid"},
        "confirm": {"top": 1, "seeds": 1},
    }
    uri = new_store(tmp_path)
    runner = make_runner(tmp_path, tree, uri=uri)
    runner.start()
    assert runner.run()
    explored = {one.overrides["training.gradient_penalty"]: one for one in runner.sweep.stage(EXPLORE)}
    assert [explored[penalty].status for penalty in (10, 666, 667, 668)] == [
        "finished", "diverged", "failed", "failed",
    ]  # fmt: skip
    assert explored[666].reason == "generator/loss is nan"
    assert explored[667].reason == "RuntimeError: out of memory, or so it says"
    assert explored[668].reason
    starts = (tmp_path / "trials" / explored[667].name / "starts").read_text().split()
    assert len(starts) == 2  # tried once more
    raised, vanished = (failure_log_of(uri, explored[penalty], tmp_path) for penalty in (667, 668))
    assert "Traceback" in raised
    assert 'raise RuntimeError("out of memory, or so it says")' in raised
    assert "the last words of a process" in vanished


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_full_disk_stops_the_sweep_and_is_no_trials_failure(tmp_path):
    tree = SPACE | {
        "space": {"training.gradient_penalty": {"choice": [669.0, 10.0]}},
        "search": {"algorithm": "grid"},
        "confirm": {"top": 1, "seeds": 1},
    }
    uri = new_store(tmp_path)
    runner = make_runner(tmp_path, tree, uri=uri, concurrent=1)
    runner.start()
    assert not runner.run()
    stopped = {one.overrides["training.gradient_penalty"]: one for one in runner.sweep.stage(EXPLORE)}
    assert (stopped[669].status, stopped[669].reason) == ("interrupted", "No space left on device")
    (tmp_path / "trials" / "room").touch()
    runner = make_runner(tmp_path, tree, uri=uri)
    runner.start()
    assert runner.run()
    assert {(one.status, one.reason) for one in runner.sweep.trials} == {("finished", "")}
    assert len(mlflow_runs(uri)) == 1 + len(runner.sweep.trials)


def failure_log_of(uri, trial, folder):
    from mlflow import MlflowClient

    target = folder / trial.name
    target.mkdir()
    return Path(MlflowClient(uri).download_artifacts(trial.run_id, FAILURE_ARTIFACT, str(target))).read_text()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_trial_larger_than_the_cluster_is_refused(tmp_path):
    runner = make_runner(tmp_path)
    runner.settings = override(runner.settings, {"resources.cpus_per_worker": 999})
    with pytest.raises(UserError, match=r"needs 999 CPU cores and no GPU; this machine has \d+ CPU cores"):
        runner.start()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("how", "algorithm"), [(signal.SIGKILL, "tpe"), (signal.SIGINT, "random")])
def test_an_interrupted_sweep_goes_on_where_it_was(tmp_path, how, algorithm):
    """From its record alone: of what Ray Tune wrote nothing is left."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    folder = tmp_path / "sweep"
    process = start_sweep(folder, uri, algorithm)
    wait_for(lambda: num_finished(folder) >= 2, process)
    if how == signal.SIGINT:
        os.killpg(process.pid, how)
        assert process.wait(150) == 130
    else:
        process.kill()
        process.wait()
    shutil.rmtree(folder / "ray")
    done = [one for one in load_sweep(StorePath(folder)).trials if one.status == "finished"]
    again = start_sweep(folder, uri, algorithm)
    assert again.wait(400) == 0
    sweep = load_sweep(StorePath(folder))
    assert sweep.settings.resources.gpus_per_worker == "auto"  # each machine that goes on decides for itself
    assert (len(sweep.stage(EXPLORE)), len(sweep.stage(CONFIRM))) == (6, 9)
    assert {one.status for one in sweep.trials} == {"finished"}
    for one in done:
        assert len((folder / "trials" / one.name / "starts").read_text().split()) == 1, f"{one.name} ran twice"
        assert sweep.trial(one.name).curve == one.curve
    assert sorted(mlflow_runs(uri)) == sorted(["test", *(one.name for one in sweep.trials)])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_rounds_that_are_killed_go_on_for_those_who_are_undecided(tmp_path):
    """The auxiliary weight does nothing and cannot be told from nothing; the rate of 2e-6 is seen at once."""
    tree = dict.fromkeys(("search", "scheduler", "space")) | {
        "confirm": {"seeds": 3, "most_seeds": 6, "margin": 1.001},
        "configurations": {
            "baseline": {},
            "weight": {"training.auxiliary_weight": 2.0},
            "slow": {"training.generator_learning_rate": 2e-6},
        },
    }
    folder, uri = tmp_path / "sweep", f"sqlite:///{tmp_path}/mlflow.db"
    process = start_sweep(folder, uri, "random", tree=tree)
    wait_for(lambda: num_finished(folder) >= 10, process)
    process.kill()
    process.wait()
    before = load_sweep(StorePath(folder))
    assert before.rounds == [3, 3]
    assert start_sweep(folder, uri, "random", tree=tree).wait(400) == 0
    sweep = load_sweep(StorePath(folder))
    counts = Counter(one.configuration for one in sweep.stage(CONFIRM))
    assert counts == {"baseline": 6, "weight": 6, "slow": 3}
    assert {one.status for one in sweep.trials} == {"finished"}
    assert [one.name for one in sweep.trials] == [one.name for one in before.trials]
    words = {one.configuration: (one.word, one.comparison.look) for one in Results(sweep).verdicts}
    assert words == {"weight": ("can't tell", 2), "slow": ("worse", 1)}


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(600)
def test_the_second_interrupt_ends_everything_within_three_seconds(tmp_path):
    uri = new_store(tmp_path)
    folder = tmp_path / "sweep"
    process = start_sweep(folder, uri, "random", seconds=20.0, stderr=subprocess.PIPE)
    wait_for(lambda: list(folder.glob("trials/*/starts")), process)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) > 3  # Ray's servers, and a trial
    os.kill(process.pid, signal.SIGINT)
    lines = iter(process.stderr.readline, b"")
    assert any(b"Ctrl-C again stops now" in line for line in lines)
    os.kill(process.pid, signal.SIGINT)
    began = time.monotonic()
    assert process.wait(90) == 130
    _, alive = psutil.wait_procs(children, timeout=max(0.0, 3 + began - time.monotonic()))
    assert not alive
    assert time.monotonic() - began < 3
    again = start_sweep(folder, uri, "random", seconds=0.0)
    assert again.wait(400) == 0
    assert {one.status for one in load_sweep(StorePath(folder)).trials} == {"finished"}
    assert len(load_sweep(StorePath(folder)).trials) == 15
    assert sorted(mlflow_runs(uri)) == sorted(
        ["test", *(one.name for one in load_sweep(StorePath(folder)).trials)]
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_death_of_rays_node_ends_the_sweep_with_a_line_and_resumes(tmp_path):
    uri = new_store(tmp_path)
    folder = tmp_path / "sweep"
    process = start_sweep(folder, uri, "random", seconds=1.0, stderr=subprocess.PIPE)
    wait_for(lambda: num_finished(folder) >= 1, process)
    (raylet,) = [child for child in psutil.Process(process.pid).children() if child.name() == "raylet"]
    raylet.kill()
    began = time.monotonic()
    assert process.wait(200) == 1
    print(f"noticed within {time.monotonic() - began:.0f} s")
    assert b"Ray's node on this machine has died; python -m kgan_ray.tune --resume" in process.stderr.read()
    again = start_sweep(folder, uri, "random", seconds=0.0)
    assert again.wait(400) == 0
    assert {one.status for one in load_sweep(StorePath(folder)).trials} == {"finished"}
    assert len(load_sweep(StorePath(folder)).trials) == 15
    assert sorted(mlflow_runs(uri)) == sorted(
        ["test", *(one.name for one in load_sweep(StorePath(folder)).trials)]
    )
