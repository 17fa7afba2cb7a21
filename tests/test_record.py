"""What MLflow shows of a whole sweep: its run, the columns of its runs table, its verdicts."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from helpers.stores import new_store
from helpers.sweep_records import BASELINE, BETTER, make
from kgan_ray.settings import UserError, flatten
from kgan_ray.storage import StorePath
from kgan_ray.tracking import client as connection
from kgan_ray.tracking import store
from kgan_ray.tracking.run import Run, start_run
from kgan_ray.tuning.answer.results import Results
from kgan_ray.tuning.question.space import base_settings, parse_space
from kgan_ray.tuning.report.mlflow_view import open_parent, record_verdicts
from kgan_ray.tuning.state import CONFIRM, Sweep, load_sweep

MAX = {"techniques.pooling": "max"}
TREE = {
    "preset": "demo",
    "configurations": {"baseline": {}, "max (A)": MAX},
    "groups": {"xsub": {"data.benchmark": "xsub"}, "xview": {"data.benchmark": "xview"}},
}


def test_verdicts_are_tags_of_the_sweep_and_of_every_run_that_they_rest_on(tmp_path):
    """In one group the change helps, in the other it does nothing: neither verdict may replace the other."""
    uri = new_store(tmp_path)
    space = parse_space(TREE, name="two", where="two.yaml")
    settings = base_settings(space, None, {})
    sweep = Sweep(
        name="two", space=TREE, settings=flatten(settings), metric="fid", mode="min", uri=uri, experiment="two"
    )
    sweep.dataset, sweep.dataset_hash = "datasets/demo", "d" * 64
    parent = open_parent(sweep, space, settings, "v1")
    for group, changed in (("xsub", BETTER), ("xview", BASELINE)):
        for name, overrides, values in (("baseline", {}, BASELINE), ("max (A)", MAX, changed)):
            for seed, value in enumerate(values):
                trial = make(f"{group}-{name}-{seed}", CONFIRM, name, overrides, value, seed=seed, group=group)
                trial.run_id = start_run(uri, experiment="two", name=trial.name, parent_id=parent.id).id
                sweep.trials.append(trial)
    record_verdicts(Results(sweep), parent)

    client = MlflowClient(tracking_uri=uri)
    told = client.get_run(parent.id).data.tags
    assert told["verdict.xsub.max_A_"] == "better"
    assert told["verdict.xview.max_A_"] == "can't tell"
    assert "- xsub max (A) is better than the baseline: fid -50" in told["mlflow.note.content"]
    assert "| group | configuration |" in told["mlflow.note.content"]
    found = {trial.name: client.get_run(trial.run_id).data.tags.get("verdict") for trial in sweep.trials}
    assert [found[f"xsub-max (A)-{seed}"] for seed in range(3)] == ["better"] * 3
    assert [found[f"xview-max (A)-{seed}"] for seed in range(3)] == ["can't tell"] * 3
    assert {found[f"{group}-baseline-{seed}"] for group in ("xsub", "xview") for seed in range(3)} == {None}
    view = json.loads(client.get_experiment_by_name("two").tags["mlflow.sharedViewState.kgan_ray"])
    assert {"metrics.`metric/fid`", "params.`techniques.pooling`", "tags.`group`", "tags.`verdict`"} <= set(
        view["selectedColumns"]
    )
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`metric/fid`", True)


def small_sweep(results: Path) -> tuple[Sweep, Run]:
    """A sweep in results/two whose record, beside it, holds its run and an artifact."""
    space = parse_space(TREE, name="two", where="two.yaml")
    settings = base_settings(space, None, {})
    sweep = Sweep.of(space, settings, uri=new_store(results), dataset="datasets/demo", dataset_hash="d" * 64)
    parent = open_parent(sweep, space, settings, "v1")
    parent.log_text("all is well", "note.txt")
    sweep.save(StorePath(results / "two"))
    return sweep, parent


def test_the_record_moves_with_the_results(tmp_path):
    """MLflow keeps whole paths; after a move they point to where nothing is, and MLflow would make an empty database there."""
    _, parent = small_sweep(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    connection._clients.clear()  # as in another process
    sweep = load_sweep(StorePath(tmp_path / "there" / "two"))
    assert sweep.uri == f"sqlite:///{tmp_path}/there/mlflow.db"
    client = MlflowClient(sweep.uri)
    assert Path(client.download_artifacts(parent.id, "note.txt", str(tmp_path))).read_text() == "all is well"
    again = open_parent(sweep, parse_space(TREE, name="two", where="x"), sweep.settings, "v1")
    assert again.id == parent.id
    there = (tmp_path / "there" / "mlartifacts").as_uri()
    assert client.get_run(parent.id).info.artifact_uri.startswith(f"{there}/")
    assert client.get_experiment_by_name("two").artifact_location.startswith(f"{there}/")
    assert not (tmp_path / "here").exists()


def test_a_record_that_is_gone_is_told_and_not_made_anew(tmp_path):
    sweep, _ = small_sweep(tmp_path)
    (tmp_path / "mlflow.db").unlink()
    connection._clients.clear()
    with pytest.raises(UserError, match=r"mlflow\.db: the MLflow record is not there \(any more\)"):
        store.ui_command(sweep.uri, sweep.experiment)
    assert not (tmp_path / "mlflow.db").exists()


def test_a_sweep_whose_run_was_deleted_goes_on_in_a_new_one(tmp_path):
    sweep, parent = small_sweep(tmp_path)
    MlflowClient(sweep.uri).delete_run(parent.id)
    trial = make("confirm-1", CONFIRM, "baseline", {}, 1.0)
    trial.run_id = parent.id
    sweep.trials.append(trial)
    again = open_parent(sweep, parse_space(TREE, name="two", where="x"), sweep.settings, "v1")
    assert again.id != parent.id
    assert sweep.parent_id == again.id
    record_verdicts(Results(sweep), again)
