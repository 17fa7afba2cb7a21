"""The report of a sweep: what the table says, what it refuses, and the files it leaves."""

import csv
import io
import json

import pytest
from PIL import Image

from helpers.networks import motion_spec, narrow
from helpers.sweep_records import finished_sweep
from kgan_ray.report import find_sweep, main
from kgan_ray.settings import UserError
from kgan_ray.tracking.run import start_run
from kgan_ray.tracking.store import prepare_store
from kgan_ray.training.checkpoint import CheckpointStore
from kgan_ray.training.gan import GAN
from kgan_ray.tuning.report import tables
from kgan_ray.tuning.report.files import write_report
from kgan_ray.tuning.state import CONFIRM


def test_the_table_holds_means_spreads_and_the_verdict():
    rows = {row["configuration"]: row for row in tables.configuration_rows(finished_sweep())}
    assert list(rows) == ["baseline", "explore-01"]
    assert (rows["baseline"]["fid"], rows["baseline"]["fid_sd"], rows["baseline"]["runs"]) == (100.0, 10.0, 3)
    assert rows["explore-01"]["effect"] == -50.0
    assert rows["explore-01"]["low"] < -50 < rows["explore-01"]["high"] < 0
    assert rows["explore-01"]["verdict"] == "better"
    assert rows["explore-01"]["accuracy"] == 0.5
    assert "discriminator/loss" not in rows["baseline"]


def test_markdown_has_one_row_a_configuration_and_no_ragged_table():
    page = tables.markdown(finished_sweep())
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert any(line.startswith("| explore-01 | pooling=max | 3 | 50.0 ± 2.0 |") for line in table)
    first = table[: table.index("| trial | changes | step | fid | status |")]
    assert len({line.count("|") for line in first}) == 1
    assert "- explore-01: better (fid 50 against 100" in page


def test_csv_reads_back():
    (row, *_) = csv.DictReader(io.StringIO(tables.csv_text(tables.trial_rows(finished_sweep()))))
    assert (row["trial"], row["fid"], row["techniques.pooling"]) == ("explore-01", "40.0", "max")


@pytest.mark.parametrize("kind", ["dataset", "extractor"])
@pytest.mark.parametrize("index", [1, -1])
def test_runs_measured_differently_are_never_ranked(kind, index):
    sweep = finished_sweep()
    setattr(sweep.trials[index], kind, "f" * 64)
    with pytest.raises(UserError, match=f"cannot be ranked together: their {kind} differs"):
        tables.markdown(sweep)


def test_published_values_stand_beside_ours():
    sweep = finished_sweep(space={"published": {"xsub": {"baseline": {"fid": 345.069}}}})
    for trial in sweep.stage(CONFIRM):
        trial.group = "xsub"
    baseline, better = tables.configuration_rows(sweep)
    assert baseline["fid_published"] == 345.069
    assert "fid_published" not in better
    assert "| fid, published |" in tables.markdown(sweep)


def test_the_report_is_written_and_logged_to_the_sweeps_run(tmp_path, capsys):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    prepare_store(uri)
    parent = start_run(uri, experiment="disc", name="disc")
    folder = tmp_path / "results" / "disc"
    finished_sweep(uri=uri, experiment="disc", parent_id=parent.id).save(folder)
    assert main(["disc", "--results", str(tmp_path / "results")]) == 0
    written = sorted(file.name for file in (folder / "report").iterdir())
    assert {"configurations.csv", "curves-confirm.png", "curves-explore.png", "report.md", "trials.csv"} <= set(
        written
    )
    logged = tmp_path / "mlartifacts" / "disc" / parent.id / "artifacts" / "report"
    assert sorted(file.name for file in logged.iterdir()) == written
    assert "explore-01: better" in capsys.readouterr().out
    assert (folder / "report" / "curves-confirm.png").read_bytes().startswith(b"\x89PNG")


def test_the_baseline_and_the_best_other_configuration_are_drawn_side_by_side(tmp_path):
    sweep = finished_sweep()
    for number, name in enumerate(("confirm-baseline-1002", "confirm-explore-01-1002")):  # the best runs of both
        gan = GAN(narrow({"seed": number}), motion_spec())
        store = CheckpointStore(str(tmp_path / "trials" / name / "checkpoints"))
        store.save(gan, {"step": 0, "metrics": {"fid": 1.0}, "dataset": "d"})
    files = {file.name: file for file in write_report(sweep, tmp_path / "report", trials=tmp_path / "trials")}
    sheet, film = (Image.open(files[name]) for name in ("motions.png", "motions.gif"))
    assert sheet.height == 2 * 4 * 110  # two rows for each of four classes
    assert film.n_frames > 1
    page = files["report.html"].read_text()
    assert page.count("data:image/gif;base64") == 1
    assert "The same in motion" in page


def test_a_sweep_that_is_not_there_suggests_one_that_is(tmp_path):
    finished_sweep().save(tmp_path / "disc")
    with pytest.raises(UserError, match=r"dsc: no sweep of that name in .*Did you mean disc\? there are: disc"):
        find_sweep("dsc", tmp_path)


def test_a_sweep_without_any_finished_trial_still_reports(tmp_path):
    sweep = finished_sweep(trials=[], verdicts=[])
    files = write_report(sweep, tmp_path)
    assert [file.name for file in files][:1] == ["report.md"]
    sweep.save(tmp_path)
    assert json.loads((tmp_path / "sweep.json").read_text())["trials"] == []
