"""The verb train. The slow tests start Ray Train for real, in a process of their own."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import mlflow
import pytest
import torch

from helpers.commands import command, options
from helpers.loops import PlainContext
from kgan_ray.cli import run_verb
from kgan_ray.data.dataset import Dataset
from kgan_ray.settings import ModelSettings, TrainingSettings, flatten, override
from kgan_ray.train import main
from kgan_ray.training.checkpoint import read_checkpoint
from kgan_ray.training.loop import train


def finished(arguments):
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr
    assert all(line.startswith("step ") for line in done.stderr.splitlines()), done.stderr  # and none of Ray's
    return done.stdout


def message_of(capsys, arguments):
    """What the verb prints for a mistake: one line, exit code 2."""
    with pytest.raises(SystemExit) as exit_:
        run_verb(lambda _: main(arguments))
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_dry_run_prints_the_resolved_settings_and_does_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["--preset", "demo", "--set", "techniques.pooling=max", "--workers", "2", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "techniques.pooling=max" in printed
    assert "resources.num_workers=2" in printed
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--set", "techniques.poling=max"], "Did you mean techniques.pooling?"),
        (["--set", "techniques.pooling=mean"], "techniques.pooling: found"),
        (["--set", "evaluation.metrics=[fdi]"], "evaluation.metrics"),
        (["--preset", "dmeo"], "Did you mean demo?"),
        (["--data", "nowhere"], "nowhere"),
        (["--workers", "3"], "3 workers cannot share"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(capsys, tmp_path, monkeypatch, arguments, told):
    monkeypatch.chdir(tmp_path)
    assert told in message_of(capsys, ["--preset", "demo", *arguments])
    assert not list(tmp_path.iterdir())


def test_a_run_is_resumed_by_its_name_alone_with_the_settings_that_it_was_started_with(capsys, tiny, tmp_path):
    folder = tmp_path / "results" / "run"
    folder.mkdir(parents=True)
    (folder / "settings.json").write_text(json.dumps(flatten(tiny)))
    resume = ["--resume", "--results", str(folder.parent), "--dry-run"]
    assert main([*resume, "--name", "run", "--set", "training.steps=9"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert f"data.frames={tiny.data.frames}" in printed
    assert "training.steps=9" in printed
    assert "no run here to resume" in message_of(capsys, [*resume, "--name", "other"])
    assert "give the run's --name, and no --preset" in message_of(capsys, [*resume, "--preset", "demo"])


def test_a_run_of_that_name_with_other_settings_is_refused(capsys, tiny, tmp_path):
    folder = tmp_path / "results" / "run"
    folder.mkdir(parents=True)
    (folder / "settings.json").write_text(json.dumps(flatten(tiny)))
    line = message_of(capsys, options(tiny, tmp_path, techniques__pooling="max"))
    assert "techniques.pooling" in line
    assert "--name" in line


@pytest.mark.slow
def test_more_workers_than_the_cluster_has_are_refused_at_once(tiny, tmp_path):
    done = subprocess.run(
        [*command(tiny, tmp_path, training__batch_size=64), "--workers", "64"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "64 workers need 64 CPU cores" in line
    assert "this machine has" in line
    assert not (tmp_path / "results").exists(), "nothing is claimed before it is checked"


@pytest.mark.slow
def test_a_run_is_started_from_python_and_says_where_its_record_is(tiny, tmp_path):
    code = (
        "import sys; from kgan_ray.settings import resolve_settings; from kgan_ray.training.service import train_run;"
        "settings = resolve_settings(None, __import__('json').loads(sys.argv[1]));"
        "trained = train_run(settings, 'run', sys.argv[2]);"
        "print(trained.outcome.status, trained.outcome.step, trained.record.id)"
    )
    status, step, run_id = finished([sys.executable, "-c", code, json.dumps(flatten(tiny)), str(tmp_path)]).split()
    assert (status, step) == ("finished", "6")
    assert mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").get_run(run_id).info.status == "FINISHED"


@pytest.mark.slow
def test_two_workers_train_what_one_does(tiny, tmp_path):
    """At the published rates: those of the demo blow differences of rounding up within six steps, as all it adds does."""
    of_training = [
        "generator_learning_rate",
        "discriminator_learning_rate",
        "beta1",
        "beta2",
        "recalibrate_batch_norm",
    ]
    of_model = ["mapping_depth", "standardised", "smoothing"]
    published = {f"training.{name}": getattr(TrainingSettings(), name) for name in of_training}
    published |= {f"model.{name}": getattr(ModelSettings(), name) for name in of_model}
    tiny = override(tiny, published)
    train(tiny, Dataset.open(tiny.data.path), str(tmp_path / "one"), PlainContext())
    printed = finished([*command(tiny, tmp_path / "two"), "--workers", "2"])
    assert "finished at step 6" in printed
    one, two = (read_checkpoint(tmp_path / name) for name in ("one", "two/results/run"))
    # BatchNorm takes these biases out again: their gradients are rounding alone, which Adam blows up to whole steps.
    without_effect = ("residual.0.bias", "tcn.0.bias", "running_mean")
    for name in one.weights:
        if name.startswith("discriminator") or not name.endswith(without_effect):
            torch.testing.assert_close(two.weights[name], one.weights[name], rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_same_command_after_a_kill_goes_on_from_the_checkpoint_in_the_same_run(tiny, tmp_path):
    arguments = command(tiny, tmp_path, training__steps=400, evaluation__every_steps=400)
    process = subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    checkpoints = tmp_path / "results" / "run" / "checkpoints"
    deadline = time.monotonic() + 240
    while len(list(checkpoints.glob("step-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)  # the driver; its Ray dies with it
    process.wait()
    reached = max(int(folder.name.removeprefix("step-")) for folder in checkpoints.glob("step-*"))
    assert 0 < reached < 400, "the run was to be killed in the middle"
    assert "finished at step 400" in finished(arguments)

    record = json.loads((tmp_path / "results" / "run" / "run.json").read_text())
    client = mlflow.MlflowClient(record["uri"])
    assert len(client.search_runs([client.get_experiment_by_name("train").experiment_id])) == 1
    steps = [point.step for point in client.get_metric_history(record["id"], "discriminator/loss")]
    assert steps == sorted(set(steps)), "a step was recorded twice"
    assert steps[-1] == 400


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("signals", "told"),
    [
        (
            [signal.SIGINT],
            r"stopping: .* again stops now\n(step .*\n)*stopped; the same command goes on from step \d+",
        ),
        (
            [signal.SIGTERM],
            r"stopping: .* again stops now\n(step .*\n)*stopped; the same command goes on from step \d+",
        ),
        (
            [signal.SIGINT, signal.SIGINT],
            r"stopping: .* again stops now\n(step .*\n)*stopped before the first checkpoint, which is made at step 90,000: .* begins anew",
        ),
    ],
    ids=["Ctrl-C", "SIGTERM", "twice"],
)
def test_ctrl_c_saves_and_says_from_where_the_same_command_goes_on(tiny, tmp_path, signals, told):
    log_every = 3 if len(signals) == 1 else 50_000  # after which a run looks whether it is to stop
    arguments = command(
        tiny,
        tmp_path,
        training__steps=99_999,
        training__checkpoint_every=90_000,
        training__log_every=log_every,
        evaluation__every_steps=90_000,
    )
    process = subprocess.Popen(
        arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout
    while "training run" not in process.stdout.readline():
        assert process.poll() is None
    time.sleep(10)
    for number in signals:
        process.send_signal(number)
        time.sleep(1)
    printed = process.communicate(timeout=100)[1]
    assert process.returncode == 130, printed
    assert re.fullmatch(told, printed.strip())
    record = json.loads((tmp_path / "results" / "run" / "run.json").read_text())
    assert mlflow.MlflowClient(record["uri"]).get_run(record["id"]).info.status == "KILLED"


@pytest.fixture
def small_disk(tmp_path):
    """A disk with room for 64 KiB, where the run's checkpoints go."""
    place = tmp_path / "results" / "run" / "checkpoints"
    place.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", place], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a file system cannot be mounted here: it takes root")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.slow
def test_a_full_disk_ends_a_run_of_two_workers_in_one_line(tiny, tmp_path, small_disk):
    arguments = [*command(tiny, tmp_path), "--workers", "2"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 2, done.stderr
    line = done.stderr.strip().splitlines()[-1]
    assert "step-00000002: the checkpoint cannot be saved" in line
    assert "no space left on device" in line.lower()
    assert not list(small_disk.iterdir())


def test_the_package_imports_nothing_heavy_for_help():
    code = "import sys, kgan_ray.train; print(sorted({'torch', 'ray', 'mlflow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
