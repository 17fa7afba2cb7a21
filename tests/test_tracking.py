"""The MLflow record: nesting, continuing without doubling, several writers, silence."""

import importlib.util
import json
import multiprocessing
import shutil
import sqlite3
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException

from helpers.stores import new_store
from kgan_ray.settings import TrackingSettings, UserError
from kgan_ray.storage import StoreError, StorePath
from kgan_ray.tracking import client as connection
from kgan_ray.tracking import run
from kgan_ray.tracking.client import client_of, sqlite_file
from kgan_ray.tracking.run import existing_run, find_run, metric_history, start_run
from kgan_ray.tracking.store import prepare_store, set_runs_view, tracking_uri, ui_command
from kgan_ray.tracking.tags import Tag


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    address = tracking_uri(TrackingSettings(), StorePath(tmp_path_factory.mktemp("results")))
    prepare_store(address)
    return address


def test_uri_prefers_the_setting_then_the_environment_then_the_results_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_uri(TrackingSettings(), StorePath(tmp_path)) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://head:5000")
    assert tracking_uri(TrackingSettings(), StorePath(tmp_path)) == "http://head:5000"
    assert (
        tracking_uri(TrackingSettings(uri="sqlite:////tmp/own.db"), StorePath(tmp_path)) == "sqlite:////tmp/own.db"
    )


def test_a_relative_address_is_made_whole_for_processes_that_run_elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")  # MLflow's own default
    assert tracking_uri(TrackingSettings(), StorePath("results")) == f"sqlite:///{tmp_path}/mlflow.db"
    whole = f"sqlite:///{tmp_path}/elsewhere.db"
    assert tracking_uri(TrackingSettings(uri=whole), StorePath("results")) == whole
    with pytest.raises(UserError, match="other processes cannot write there"):
        tracking_uri(TrackingSettings(uri="sqlite:///:memory:"), StorePath("results"))


def test_a_file_store_is_refused_with_what_is_accepted(tmp_path):
    with pytest.raises(UserError, match=r"tracking\.uri: found './mlruns'.*sqlite:///FILE"):
        tracking_uri(TrackingSettings(uri="./mlruns"), StorePath(tmp_path))


def test_a_record_that_cannot_be_opened_is_one_line(tmp_path):
    (tmp_path / "mlflow.db").write_bytes(b"this is no database at all, whatever its name says" * 50)
    with pytest.raises(UserError, match=r"no MLflow record can be opened") as refusal:
        prepare_store(f"sqlite:///{tmp_path}/mlflow.db")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///", "sqlite:///x.db?timeout=5", "sqlite:////tmp/"])
def test_an_address_that_names_no_file_alone_is_refused(tmp_path, uri):
    with pytest.raises(UserError, match=r"expected sqlite:///FILE, without options"):
        tracking_uri(TrackingSettings(uri=uri), StorePath(tmp_path))


@pytest.mark.parametrize("name", ["with space", "50%", "100%25", "why?"])
def test_folders_of_any_name_hold_a_record(tmp_path, monkeypatch, name):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    uri = tracking_uri(TrackingSettings(), StorePath(tmp_path / name))
    prepare_store(uri)
    assert (tmp_path / name / "mlflow.db").stat().st_size > 0
    run = start_run(uri, experiment="e", name="r")
    run.log_text("x", "x.txt")
    assert [file.name for file in (tmp_path / name).rglob("*.txt")] == ["x.txt"]


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("sqlite:////etc/hostname/x.db", "File exists"),
        ("sqlite:////proc/x.db", "unable to open database file"),
        ("postgresql://127.0.0.1/x", "No module named"),
        ("http://127.0.0.1:9", "no MLflow server answers at http://127.0.0.1:9 (Connection refused)"),
        ("https://no.such.host.invalid", "no MLflow server answers at"),
        ("http://127.0.0.1:port", "no MLflow server answers at http://127.0.0.1:port (nonnumeric port"),
    ],
)
@pytest.mark.timeout(60)  # MLflow itself would try for minutes
def test_a_record_out_of_reach_is_told_at_once(uri, told):
    if uri.startswith("postgresql") and importlib.util.find_spec("psycopg"):
        pytest.skip("its driver is installed")
    with pytest.raises(UserError) as refusal:
        prepare_store(uri)
    assert told in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_commands_that_start_together_make_one_record(tmp_path):
    code = f"from kgan_ray.tracking.store import prepare_store; prepare_store('sqlite:///{tmp_path}/mlflow.db')"
    together = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait(300) for process in together] == [0, 0, 0]
    made = client_of(f"sqlite:///{tmp_path}/mlflow.db").search_experiments()
    assert [experiment.name for experiment in made] == ["Default"]


@pytest.mark.slow
def test_a_record_that_another_process_writes_to_is_waited_for(uri):
    database = sqlite3.connect(sqlite_file(uri), isolation_level=None, check_same_thread=False)
    database.execute("BEGIN EXCLUSIVE")
    release = threading.Timer(30, lambda: database.execute("ROLLBACK"))  # MLflow itself gives up after 20 s
    release.start()
    try:
        assert start_run(uri, experiment="crowded", name="run").id
        assert release.finished.is_set()
    finally:
        release.cancel()
        database.close()


def test_a_child_is_listed_under_its_parent_and_found_by_its_tags(uri):
    parent = start_run(uri, experiment="nested", name="sweep")
    child = start_run(uri, experiment="nested", name="trial", parent_id=parent.id, tags={"trial": "e001"})
    assert find_run(uri, experiment="nested", tags={Tag.PARENT: parent.id, "trial": "e001"}) == child.id
    assert find_run(uri, experiment="nested", tags={"trial": "e002"}) is None
    assert find_run(uri, experiment="never made", tags={"trial": "e001"}) is None


def test_a_run_that_is_killed_as_it_begins_can_be_found_again(uri, monkeypatch):
    class Killed(Exception):
        pass

    def killed(run, params):
        raise Killed

    monkeypatch.setattr(run.Run, "log_params", killed)
    tags = {Tag.PARENT: "sweep", "trial": "e007"}
    with pytest.raises(Killed):
        start_run(uri, experiment="begun", name="trial", parent_id="sweep", tags=tags, params={"seed": 1})
    assert find_run(uri, experiment="begun", tags=tags)


def test_a_continued_run_doubles_no_step_and_keeps_its_params(uri):
    first = start_run(uri, experiment="again", name="trial", params={"seed": 1})
    for step in (0, 10, 20):
        first.log_metrics({"metric/fid": 100.0 - step}, step)
    again = start_run(uri, experiment="again", name="trial", run_id=first.id, params={"seed": 2, "width": 0.5})
    for step in (10, 20, 30):  # from the checkpoint at step 10 on
        again.log_metrics({"metric/fid": 100.0 - step, "metric/new": float(step)}, step)
    again.finish()
    assert again.id == first.id
    history = metric_history(uri, first.id, ["metric/fid", "metric/new", "metric/absent"])
    assert history == {
        "metric/fid": [(0, 100.0), (10, 90.0), (20, 80.0), (30, 70.0)],
        "metric/new": [(10, 10.0), (20, 20.0), (30, 30.0)],
    }
    from mlflow import MlflowClient

    data = MlflowClient(uri).get_run(first.id)
    assert data.data.params == {"seed": "1", "width": "0.5"}
    assert data.info.status == "FINISHED"


def test_continuing_an_unknown_run_says_where_it_was_sought(uri):
    with pytest.raises(UserError, match=r"has no run 0123"):
        start_run(uri, experiment="again", name="trial", run_id="0123")
    with pytest.raises(UserError, match=r"has no run 0123"):
        existing_run(uri, "0123")


def test_what_is_added_to_an_existing_run_leaves_its_end_as_it_was(uri):
    run = start_run(uri, experiment="ended", name="trial")
    run.finish("KILLED")
    before = client_of(uri).get_run(run.id).info
    existing_run(uri, run.id).set_tags({Tag.REASON: "a memory error"})
    after = client_of(uri).get_run(run.id)
    assert (after.info.status, after.info.end_time) == ("KILLED", before.end_time)
    assert after.data.tags["reason"] == "a memory error"


def test_artifacts_lie_beside_the_database(uri, tmp_path):
    (tmp_path / "table.md").write_text("| a |")
    run = start_run(uri, experiment="with files", name="report")
    run.log_artifact(tmp_path / "table.md", "report")
    run.log_artifact(tmp_path, "folder")
    from pathlib import Path

    root = Path(uri.removeprefix("sqlite:///")).parent / "mlartifacts" / "with_files"
    found = sorted(str(path.relative_to(root / run.id)) for path in root.rglob("*.md"))
    assert found == ["artifacts/folder/table.md", "artifacts/report/table.md"]


def _write(uri: str, index: int) -> None:
    run = start_run(uri, experiment="many", name=f"trial {index}", params={"index": index})
    for step in range(20):
        run.log_metrics({"metric/fid": float(step)}, step)
    run.finish()


def test_the_dataset_of_a_continued_run_is_there_once(uri):
    from mlflow import MlflowClient

    run = start_run(uri, experiment="data", name="run")
    for each in (run, start_run(uri, experiment="data", name="run", run_id=run.id)):
        each.log_dataset("demo", "d" * 64, "datasets/demo")
    (logged,) = MlflowClient(uri).get_run(run.id).inputs.dataset_inputs
    assert (logged.dataset.name, logged.dataset.digest) == ("demo", "d" * 36)
    assert "datasets/demo" in logged.dataset.source


@pytest.mark.slow
def test_several_processes_write_at_once(uri):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(uri, index)) for index in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    client = client_of(uri)
    written = client.search_runs([client.get_experiment_by_name("many").experiment_id])
    assert sorted(one.data.params["index"] for one in written) == ["0", "1", "2"]
    assert {one.info.status for one in written} == {"FINISHED"}
    for one in written:
        points = metric_history(uri, one.info.run_id, ["metric/fid"])["metric/fid"]
        assert points == [(step, float(step)) for step in range(20)]


def test_opening_a_record_prints_nothing(tmp_path):
    script = (
        "from kgan_ray.tracking.run import start_run\n"
        "from kgan_ray.tracking.store import prepare_store\n"
        f"uri = 'sqlite:///{tmp_path}/mlflow.db'\n"
        "prepare_store(uri)\n"
        "start_run(uri, experiment='quiet', name='run').finish()\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=280)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_a_record_that_fails_meanwhile_is_one_line_and_no_mistake_of_the_runs(tmp_path, monkeypatch):
    written = start_run(new_store(tmp_path), experiment="disc", name="explore-01")
    shutil.rmtree(tmp_path / "mlartifacts", ignore_errors=True)
    (tmp_path / "mlartifacts").write_text("in the way")
    with pytest.raises(StoreError, match=r"^the MLflow record at sqlite:.* fails \(Not a directory\)$"):
        written.log_text("hello", "note.txt")
    (tmp_path / "mlflow.db").write_bytes(b"damaged " * 4096)
    with pytest.raises(StoreError, match=r"fails \(file is not a database\)$"):
        written.set_tags({"stage": "explore"})

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(
        StoreError,
        match=r"^the MLflow record at http://127\.0\.0\.1:9 fails \(\[Errno 111\] Connection refused\)$",
    ):
        existing_run("http://127.0.0.1:9", "7")


def test_what_the_record_answers_is_no_failure_of_it(uri):
    with pytest.raises(MlflowException, match="not found"):
        client_of(uri).get_run("0" * 32)


def test_importing_the_module_does_not_import_mlflow():
    script = "import sys, kgan_ray.tracking.run; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0


def test_a_servers_page_is_opened_at_the_experiment(monkeypatch):
    server = SimpleNamespace(get_experiment_by_name=lambda name: SimpleNamespace(experiment_id="7", tags={}))
    monkeypatch.setitem(connection._clients, "http://head:5000", server)
    page = "http://head:5000/#/experiments/7/runs?workflowType=machine_learning"
    assert ui_command("http://head:5000", "disc") == f"python -m webbrowser '{page}'"


def test_the_command_that_opens_the_record_quotes_its_path_and_names_the_runs_page(tmp_path):
    uri = f"sqlite:///{tmp_path}/my results/mlflow.db"
    prepare_store(uri)
    start_run(uri, experiment="disc", name="sweep")
    page = "http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning"
    assert ui_command(uri, "disc") == f"mlflow ui --backend-store-uri '{uri}'  # then open {page}"


def test_the_runs_page_opens_with_the_columns_that_were_chosen(uri):
    start_run(uri, experiment="disc", name="sweep")
    columns = {"metrics": ["metric/fid"], "params": ["techniques.pooling", "seed"], "tags": ["stage"]}
    set_runs_view(uri, "disc", **columns, lowest_first=True)
    assert ui_command(uri, "disc").endswith("/runs?workflowType=machine_learning&viewStateShareKey=kgan_ray")
    view = json.loads(client_of(uri).get_experiment_by_name("disc").tags["mlflow.sharedViewState.kgan_ray"])
    assert view == {
        "selectedColumns": [
            "metrics.`metric/fid`",
            "params.`techniques.pooling`",
            "params.`seed`",
            "tags.`stage`",
        ],
        "orderByKey": "metrics.`metric/fid`",
        "orderByAsc": True,
    }
