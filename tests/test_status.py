"""What `python -m kgan_ray.status` says of a sweep's record."""

import os

import pytest

from kgan_ray.settings import UserError
from kgan_ray.status import find_sweep, main, status_lines
from kgan_ray.tracking.run import start_run
from kgan_ray.tracking.store import prepare_store
from kgan_ray.tuning.state import Sweep, Trial


def trial(name: str, status: str, fid: float | None = None, **fields) -> Trial:
    metrics = {} if fid is None else {"fid": fid}
    return Trial(
        name=name, stage="explore", configuration=name, overrides={"techniques.pooling": "max"}, seed=0, status=status,
        metrics=metrics, **fields,
    )  # fmt: skip


def sweep(*trials: Trial, **fields) -> Sweep:
    return Sweep(
        name="disc",
        space={},
        settings={"training.steps": 600},
        metric="fid",
        mode="min",
        trials=list(trials),
        **fields,
    )


def test_counts_the_best_and_the_last_trouble():
    lines = status_lines(
        sweep(
            trial("a", "finished", 30.0),
            trial("b", "stopped", 20.0),
            trial("c", "diverged", 1.0, reason="generator/loss is nan at step 7\nmore"),
            trial("d", "waiting"),
        ),
        age=75,
    )
    assert lines[0] == "sweep disc: explore; last change 1:15 ago"
    assert lines[1] == "trials: 3 of 4 known ones ended (1 finished, 1 stopped, 1 diverged, 1 waiting)"
    assert "best single run: b  fid 20  (pooling=max)" in lines  # a diverged run's score is no score
    assert "last trouble: c: generator/loss is nan at step 7" in lines


def test_a_running_trial_is_as_far_as_mlflow_knows(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    prepare_store(uri)
    run = start_run(uri, experiment="disc", name="a")
    run.log_metrics({"discriminator/loss": 1.0, "time/steps_per_second": 2.5}, step=150)
    lines = status_lines(sweep(trial("a", "running", 30.0, run_id=run.id, step=100), uri=uri), age=0)
    assert "  a: step 150/600  2.50 steps/s  fid 30  pooling=max" in lines


def test_ten_lines_are_enough_for_many_trials():
    many = [trial(f"t{number}", "running", float(number)) for number in range(40)]
    verdicts = [{"sentence": f"verdict {number}"} for number in range(9)]
    lines = status_lines(sweep(*many, verdicts=verdicts), age=0)
    assert len(lines) <= 12
    assert "  and 36 more" in lines


def test_a_sweep_that_has_not_begun():
    assert status_lines(sweep(), age=0) == [
        "sweep disc: not begun; last change 0:00 ago",
        "trials: 0 of 0 known ones ended (no trials yet)",
    ]


def test_the_sweep_active_last_is_shown(tmp_path, capsys):
    sweep().save(tmp_path / "old")
    os.utime(tmp_path / "old/sweep.json", (1, 1))
    sweep(trial("a", "waiting")).save(tmp_path / "new")
    assert find_sweep(tmp_path, None) == tmp_path / "new"
    assert find_sweep(tmp_path, "old") == tmp_path / "old"
    assert main(["--results", str(tmp_path)]) == 0
    assert "1 waiting" in capsys.readouterr().out


def test_an_unknown_sweep_is_refused_with_the_nearest_name(tmp_path):
    with pytest.raises(UserError, match="no sweep here"):
        find_sweep(tmp_path, None)
    sweep().save(tmp_path / "disc")
    with pytest.raises(UserError, match=r"no sweep 'dics'\. Did you mean disc"):
        find_sweep(tmp_path, "dics")
