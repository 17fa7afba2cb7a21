"""What a stage's recorder writes of its trials, event by event, to sweep.json and to MLflow."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

import kgan_ray.tuning.running.recorder
from helpers.stores import new_store
from helpers.sweeps import SPACE, make_runner, mlflow_runs
from kgan_ray.storage import StorePath
from kgan_ray.tracking.run import Run
from kgan_ray.tuning.running.jobs import explore_jobs
from kgan_ray.tuning.running.recorder import StageRecorder, new_trial
from kgan_ray.tuning.running.trial import open_run
from kgan_ray.tuning.search.proposals import OBJECTIVE
from kgan_ray.tuning.state import EXPLORE, load_sweep


class TunesTrial:
    """What a StageRecorder asks of Ray Tune's trial."""

    def __init__(
        self, name: str, result: dict | None = None, config: dict | None = None, trial_id: str = "t"
    ) -> None:
        self._name, self.config, self.trial_id = name, config or {}, trial_id
        self.last_result = {"reason": "", "measured": {"fid": 1.0}, OBJECTIVE: 1.0} | result if result else {}

    def __str__(self) -> str:
        return self._name


class Events:
    """Tells a recorder what Tune does, with the one trial that matters."""

    def __init__(self, recorder: StageRecorder) -> None:
        self._recorder = recorder

    def __getattr__(self, event: str):
        return lambda *arguments, **more: getattr(self._recorder, f"on_{event}")(0, [], *arguments, **more)


def recorder_of_one(folder: Path) -> tuple[StageRecorder, str, Run]:
    """A recorder of a stage with one trial, whose run is open; and the trial's name and run."""
    runner = make_runner(folder, uri=new_store(folder))
    (job, *_) = explore_jobs([{}], seed=0)
    plan = runner._plan(EXPLORE, [job], None)
    run = open_run(plan, job, runner.settings, folder / job.name)
    runner.sweep.trials.append(new_trial(job, runner.sweep))
    return StageRecorder(runner.sweep, plan, StorePath(folder)), job.name, run


def status_of(uri: str, run_id: str) -> str:
    return MlflowClient(uri).get_run(run_id).info.status


@pytest.mark.parametrize("moment", ["quiet", "save"])
def test_ended_trials_runs_are_ended_when_nothing_waits_and_before_the_record_says_so(
    tmp_path, monkeypatch, moment
):
    recorder, name, run = recorder_of_one(tmp_path)
    recorder.save()
    tune = Events(recorder)
    tune.trial_complete(TunesTrial(name, {"status": "finished", "step": 30, "run_id": run.id, "extractor": "e"}))
    tune.step_end()
    assert status_of(recorder.sweep.uri, run.id) == "RUNNING"
    if moment == "quiet":
        monkeypatch.setattr(kgan_ray.tuning.running.recorder, "QUIET_S", 0.0)
        tune.step_end()
    else:
        recorder.save()
    assert status_of(recorder.sweep.uri, run.id) == "FINISHED"
    assert recorder.sweep.trial(name).status == "finished"


def test_a_trial_that_never_began_is_forgotten_with_its_run_when_the_budget_ends_the_stage(tmp_path):
    recorder, name, run = recorder_of_one(tmp_path)
    Events(recorder).trial_complete(TunesTrial(name))
    recorder.curtail()
    assert recorder.sweep.trials == []
    assert sorted(mlflow_runs(recorder.sweep.uri)) == ["test"]
    assert status_of(recorder.sweep.uri, run.id) == "FINISHED"


def test_a_trial_counts_as_ended_only_when_tune_says_so(tmp_path):
    recorder, name, run = recorder_of_one(tmp_path)
    trial = TunesTrial(name, {"status": "finished", "step": 30, "run_id": run.id, "extractor": "e"})
    tune = Events(recorder)
    tune.trial_start(trial)
    tune.trial_result(trial, trial.last_result)
    recorder.interrupt()
    assert load_sweep(StorePath(tmp_path)).trial(name).status == "interrupted"
    assert status_of(recorder.sweep.uri, run.id) == "KILLED"
    tune.trial_complete(trial)
    recorder.save()
    assert load_sweep(StorePath(tmp_path)).trial(name).status == "finished"
    assert status_of(recorder.sweep.uri, run.id) == "FINISHED"


@pytest.mark.parametrize(("compare", "score"), [("ratio", 20.0), ("difference", 25.0)])
def test_a_runs_score_is_the_mean_of_its_last_evaluations(tmp_path, compare, score):
    recorder, name, run = recorder_of_one(tmp_path)
    recorder.sweep.mean_of, recorder.sweep.compare = 2, compare
    tune, scores = Events(recorder), []
    for step, status, value in ((10, "running", 100.0), (20, "running", 40.0), (30, "finished", 10.0)):
        told = {"status": status, "step": step, "run_id": run.id, "extractor": "e", OBJECTIVE: value}
        trial = TunesTrial(name, told | {"measured": {"fid": value, "accuracy": 0.5}})
        tune.trial_result(trial, trial.last_result)
        scores.append(recorder.sweep.trial(name).value("fid"))
    tune.trial_complete(trial)
    mine = recorder.sweep.trial(name)
    assert (scores[0], mine.value("fid"), mine.value("accuracy")) == pytest.approx((100.0, score, 0.5))
    assert mine.curve == [(10, 100.0), (20, 40.0), (30, 10.0)]


def test_a_proposed_trial_is_in_the_record_before_it_starts_and_keeps_its_name_in_a_later_session(tmp_path):
    first, again = {"techniques.label_noise_std": 0.1}, {"techniques.label_noise_std": 0.3}
    runner = make_runner(tmp_path, SPACE | {"search": {"algorithm": "tpe", "num_trials": 3}})
    recorder = StageRecorder(runner.sweep, runner._plan(EXPLORE, None, None), StorePath(tmp_path))
    for trial_id, config in (("a", first), ("b", again)):
        for _ in range(2):  # Tune asks for the name, then for the folder's
            name = recorder.name_trial(TunesTrial("", config=config, trial_id=trial_id))
    assert name == "explore-02"
    assert [trial.overrides for trial in load_sweep(StorePath(tmp_path)).trials] == [first, again]
    done = TunesTrial("explore-01", {"status": "finished", "step": 30, "run_id": "", "extractor": "e"})
    Events(recorder).trial_complete(done)
    recorder.save()

    later = StageRecorder(load_sweep(StorePath(tmp_path)), runner._plan(EXPLORE, None, None), StorePath(tmp_path))
    assert later.name_trial(TunesTrial("", config=again, trial_id="c")) == "explore-02"
    assert later.name_trial(TunesTrial("", config=again, trial_id="d")) == "explore-03"  # proposed a second time
    assert later.name_trial(TunesTrial("", config=first, trial_id="e")) == "explore-04"
