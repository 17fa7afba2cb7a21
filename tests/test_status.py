"""What `python -m kgan_ray.status` says of a sweep's record."""

import json
import os

import pytest

from helpers.stores import new_store
from kgan_ray.metrics.names import Recognition
from kgan_ray.ownership import owned
from kgan_ray.settings import UserError, flatten, resolve_settings
from kgan_ray.status import main
from kgan_ray.storage import StorePath
from kgan_ray.tracking.run import start_run
from kgan_ray.training.checkpoint import CheckpointStore
from kgan_ray.training.gan import GAN
from kgan_ray.tuning.answer.results import Results
from kgan_ray.tuning.report.standing import standing_lines
from kgan_ray.tuning.state import CONFIRM, EXPLORE, Sweep, Trial, find_sweep


def trial(name: str, status: str, fid: float | None = None, **fields) -> Trial:
    metrics = {} if fid is None else {"fid": fid}
    fields = {"stage": EXPLORE, "configuration": name, **fields}
    return Trial(
        name=name, overrides={"techniques.pooling": "max"}, seed=0, status=status, metrics=metrics, **fields
    )


def sweep(*trials: Trial, **fields) -> Sweep:
    return Sweep(
        name="disc",
        space={},
        settings=flatten(resolve_settings("demo", {"training.steps": 600})),
        metric="fid",
        mode="min",
        trials=list(trials),
        **fields,
    )


def lines_of(one: Sweep, age: float = 0) -> list[str]:
    return standing_lines(Results(one), age)


def test_counts_the_best_and_the_last_trouble():
    lines = lines_of(
        sweep(
            trial("a", "finished", 30.0),
            trial("b", "stopped", 20.0),
            trial("c", "diverged", 1.0, reason="generator/loss is nan at step 7\nmore"),
            trial("d", "waiting"),
        ),
        age=75,
    )
    assert lines[0] == "sweep disc: explore; last change 1:15 ago"
    assert lines[1] == "trials: 3 of 4 recorded ones ended (1 finished, 1 stopped, 1 diverged, 1 waiting)"
    assert "best single run: b  fid 20  (pooling=max)" in lines  # a diverged run's score is no score
    assert "last trouble: c: generator/loss is nan at step 7" in lines


def test_how_good_the_extractor_is_stands_beside_the_best_score():
    one = sweep(trial("b", "finished", 20.0), recognitions={"": Recognition("e", 0.8125, "16 test motions", 0.25)})
    assert "best single run: b  fid 20, extractor 81% right  (pooling=max)" in lines_of(one)


def test_a_running_trial_is_as_far_as_mlflow_knows(tmp_path):
    uri = new_store(tmp_path)
    run = start_run(uri, experiment="disc", name="a")
    run.log_metrics({"discriminator/loss": 1.0, "time/steps_per_second": 2.5}, step=150)
    lines = lines_of(sweep(trial("a", "running", 30.0, run_id=run.id, step=100), uri=uri), age=0)
    assert "  a: step 150/600  2.50 steps/s  fid 30  pooling=max" in lines


def test_ten_lines_are_enough_for_many_trials(tmp_path):
    ended = [
        trial(f"{name}-{seed}", "finished", 10.0 * number + seed, stage=CONFIRM, configuration=name)
        for number, name in enumerate(["baseline", *(f"e{k}" for k in range(9))])
        for seed in range(2)
    ]
    running = [trial(f"r{k}", "running", 5.0, stage=CONFIRM, configuration="baseline") for k in range(40)]
    lost = trial("lost", "diverged", reason="nan", stage=CONFIRM, configuration="baseline")
    uri = new_store(tmp_path)
    lines = lines_of(sweep(*ended, *running, lost, uri=uri, experiment="disc"))
    assert len(lines) == 10
    assert lines[1].endswith("; 37 more run")


def test_a_sweep_that_has_not_begun():
    assert lines_of(sweep(), age=0) == [
        "sweep disc: not begun; last change 0:00 ago",
        "trials: 0 of 0 recorded ones ended (no trials yet)",
    ]


def test_the_sweep_active_last_is_shown(tmp_path, capsys):
    sweep().save(StorePath(tmp_path / "old"))
    os.utime(tmp_path / "old/sweep.json", (1, 1))
    sweep(trial("a", "waiting")).save(StorePath(tmp_path / "new"))
    assert find_sweep(StorePath(tmp_path), None) == StorePath(tmp_path / "new")
    assert find_sweep(StorePath(tmp_path), "old") == StorePath(tmp_path / "old")
    assert main(["--results", str(tmp_path)]) == 0
    assert "1 waiting" in capsys.readouterr().out


def test_training_runs_are_listed_too(tmp_path, capsys, tiny, demo):
    home = tmp_path / "results"
    for name, step in (("short", 2), ("whole", tiny.training.steps)):
        gan = GAN(tiny, demo.view(tiny.data).spec)
        gan.step_count = step
        state = {"step": step, "metrics": {"fid": 12.5, "discriminator/loss": 1.0}}
        CheckpointStore(str(home / name / "checkpoints")).save(gan, state)
        (home / name / "settings.json").write_text(json.dumps(flatten(tiny)))
        (home / name / "run.json").write_text("{}")
        os.utime(home / name / "run.json", (step, step))
    lines = [
        f"run whole: step {tiny.training.steps} of {tiny.training.steps}, ended  fid 12.5",
        f"run short: step 2 of {tiny.training.steps}, stopped  fid 12.5",
    ]
    assert main(["--results", str(home)]) == 0
    assert capsys.readouterr().out.splitlines() == lines
    with owned(StorePath(home / "short"), "run short"):
        assert main(["short", "--results", str(home)]) == 0
    assert capsys.readouterr().out.startswith(f"run short: step 2 of {tiny.training.steps}, runs since 20")
    for name in ("old", "new"):
        sweep(trial("a", "waiting")).save(StorePath(home / name))
    assert main(["--results", str(home)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("sweep disc: explore")
    assert told[-3:] == ["other sweeps: old", *lines]


def test_an_unknown_sweep_is_refused_with_the_nearest_name(tmp_path):
    with pytest.raises(UserError, match="no sweep here"):
        find_sweep(StorePath(tmp_path))
    sweep().save(StorePath(tmp_path / "disc"))
    with pytest.raises(UserError, match=r"no sweep 'dics'\. Did you mean disc"):
        find_sweep(StorePath(tmp_path), "dics")


def test_a_sweep_whose_second_round_runs_is_not_judged():
    first = [
        trial(f"{name}-{seed}", "finished", value + seed, stage=CONFIRM, configuration=name)
        for name, value in (("baseline", 100.0), ("e1", 50.0))
        for seed in range(3)
    ]
    record = sweep(*first, rounds=[3], done=["explore", "confirm-1"])
    assert lines_of(record)[0] == "sweep disc: judged; last change 0:00 ago"
    more = trial("e1-3", "running", stage=CONFIRM, configuration="e1")
    lines = lines_of(record.model_copy(update={"rounds": [3, 2], "trials": [*first, more]}))
    assert lines[0] == "sweep disc: confirm, round 2 of 2; last change 0:00 ago"
    assert any(line.startswith("so far: e1 is better than the baseline: fid -50") for line in lines)


def test_the_round_of_population_based_training_that_runs_is_named():
    done = ["explore-round-01", "explore-round-01-exchanged", "explore-round-02"]
    assert Results(sweep(trial("a", "running"), done=done)).stage == "explore, round 3"
