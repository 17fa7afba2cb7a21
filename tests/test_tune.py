"""The verb: what it refuses before anything starts, and whole sweeps of real training."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from helpers.commands import ROOT, tune, write_small_space
from kgan_ray.settings import UserError
from kgan_ray.storage import StorePath
from kgan_ray.tune import main
from kgan_ray.tuning.answer.results import Results
from kgan_ray.tuning.service import code_version
from kgan_ray.tuning.state import CONFIRM, EXPLORE, load_sweep, resume_command

DISC = str(ROOT / "search_spaces" / "disc.yaml")


@pytest.fixture
def small_space(tmp_path, tiny) -> Path:
    return write_small_space(tmp_path, tiny)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--space FILE is missing"),
        (["--space", "search_spaces/dsc.yaml"], "dsc.yaml: No such file"),
        (["--space", DISC, "--preset", "dmo"], "unknown preset 'dmo'. Did you mean demo"),
        (["--space", DISC, "--set", "training.stepz=1"], "unknown setting 'training.stepz'"),
        (["--space", DISC, "--concurrent", "0"], "--concurrent 0: expected 1 or more"),
        (["--space", DISC, "--budget", "hour=1"], "--budget: unknown key 'hour'. Did you mean hours?"),
        (["--space", DISC, "--budget", "hours"], "--budget hours: expected NAME=VALUE"),
        (["--space", DISC, "--name", "../elsewhere"], "expected a name without slashes"),
        (["--space", DISC, "--add-seeds", "2"], "extend a sweep: give --resume"),
        (["--resume", "--name", "never"], "no sweep here to resume"),
    ],
)
def test_mistakes_are_refused_before_anything_starts(arguments, message, tmp_path):
    with pytest.raises(UserError) as refusal:
        main([*arguments, "--results", str(tmp_path)])
    assert message in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_dry_run_prints_the_settings_and_the_space(tmp_path, capsys):
    assert main(["--space", DISC, "--dry-run", "--set", "training.steps=7", "--results", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "training.steps=7" in printed
    assert "# explore: 8 trials (tpe)" in printed
    assert (
        "# confirm: 6 to 18 runs: the best 1 and the baseline, 3 to 9 fresh seeds each, until each is decided"
        in printed
    )
    assert "# budget: 8.8 minutes" in printed
    assert "# techniques.label_noise_std: uniform [0.0, 1.0]" in printed
    assert printed.endswith(f"python -m kgan_ray.benchmark --space {DISC} --set training.steps=7\n")
    assert list(tmp_path.iterdir()) == []


def test_a_files_budget_is_for_its_own_preset(tmp_path, capsys):
    asked = ["--space", DISC, "--dry-run", "--results", str(tmp_path)]
    assert main([*asked, "--preset", "demo"]) == 0
    assert "# budget: 8.8 minutes" in capsys.readouterr().out
    assert main([*asked, "--preset", "ntu60-xsub"]) == 0
    assert "# budget" not in capsys.readouterr().out


def test_a_dry_run_of_listed_configurations_names_them_and_looks_at_the_data(demo, capsys, tmp_path):
    ablation = ["--space", str(ROOT / "search_spaces" / "ablation.yaml"), "--dry-run", "--results", str(tmp_path)]
    assert main([*ablation, "--set", "data.benchmark=xsub", "--data", demo.path]) == 0
    printed = capsys.readouterr().out
    assert f"# data: {demo.path}, xsub: " in printed
    assert "# confirm: 50 runs: 5 configurations under 2 conditions (xsub, xview), 5 fresh seeds each" in printed
    assert "# A: pooling=max" in printed
    assert "explore" not in printed
    with pytest.raises(UserError, match="no dataset here"):
        main([*ablation, "--data", str(tmp_path / "nowhere")])


def test_a_bare_name_is_that_of_a_file_in_search_spaces(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert main(["--space", "disc", "--dry-run"]) == 0
    with pytest.raises(UserError, match=r"search_spaces/dics.yaml.*Did you mean disc.yaml"):
        main(["--space", "dics", "--dry-run"])


def test_a_dry_run_waits_for_neither_pytorch_nor_ray():
    script = f"import sys; from kgan_ray.tune import main; main(['--space', {DISC!r}, '--dry-run']); sys.exit('torch' in sys.modules or 'ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=False).returncode == 0


def test_the_verb_exits_with_2_and_one_line():
    ran = tune("--space", DISC, "--set", "techniques.pooling=mx", timeout=200)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("error: ")
    assert ran.stderr.count("\n") == 1


def test_the_command_that_resumes_names_the_folder():
    assert resume_command(Path("results/disc")) == "python -m kgan_ray.tune --resume --name disc"
    assert resume_command(Path("/x/disc")) == "python -m kgan_ray.tune --resume --name disc --results /x"


def test_the_code_version_is_the_commit_where_git_tells_it_and_else_the_installed_version(monkeypatch):
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--tags"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert code_version() == (described.stdout.strip() if (ROOT / ".git").exists() else version("kgan_ray"))

    def hang(command, **options):
        raise subprocess.TimeoutExpired(command, options["timeout"])

    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "run", hang)
        assert code_version() == version("kgan_ray")
    monkeypatch.setenv("PATH", "")
    assert code_version() == version("kgan_ray")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_sweep_of_real_training_ends_with_table_verdict_and_command(tmp_path, small_space, demo):
    results = tmp_path / "results"
    common = ["--space", str(small_space), "--data", demo.path, "--results", str(results)]
    ran = tune(*common)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "mlflow ui --backend-store-uri sqlite:///" in ran.stdout
    assert "fid" in ran.stdout
    assert "Traceback" not in ran.stdout + ran.stderr
    assert "(pid=" not in ran.stdout + ran.stderr
    sweep = load_sweep(StorePath(results / "small"))
    assert [trial.status for trial in sweep.trials] == ["finished"] * 6
    assert (len(sweep.stage(EXPLORE)), len(sweep.stage(CONFIRM))) == (2, 4)
    assert len(Results(sweep).verdicts) == 1
    for trial in sweep.trials:
        assert list((results / "small" / "trials" / trial.name / "checkpoints").glob("step-*/weights.safetensors"))
    assert (results / "small" / "report" / "report.md").exists()

    refused = tune(*common, timeout=200)
    assert (refused.returncode, refused.stderr.count("--resume goes on with it")) == (2, 1)
    changed = tune(*common, "--resume", "--set", "training.steps=99", timeout=200)
    assert changed.returncode == 2
    assert "training.steps: the sweep was started with" in changed.stderr

    again = tune(*common, "--resume", "--add-seeds", "1")
    assert again.returncode == 0, again.stdout + again.stderr
    extended = load_sweep(StorePath(results / "small"))
    assert extended.trials[:6] == sweep.trials
    one, other = (trial.seed for trial in extended.trials[6:])
    assert one == other  # the baseline's is the configuration's
    assert one not in {trial.seed for trial in sweep.trials}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_sweep_of_two_worker_trials_ends(tmp_path, small_space, demo):
    tree = yaml.safe_load(
        small_space.read_text()
    )  # each of these trials costs half a minute of starting processes
    small_space.write_text(yaml.safe_dump(tree | {"confirm": {"top": 1, "seeds": 1}}))
    ran = tune(
        "--space", str(small_space), "--data", demo.path, "--results", str(tmp_path / "results"),
        "--set", "resources.num_workers=2",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    sweep = load_sweep(StorePath(tmp_path / "results" / "small"))
    assert [trial.status for trial in sweep.trials] == ["finished"] * 4


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_full_disk_interrupts_a_trial_of_two_workers(tmp_path, small_space, demo):
    """It is no failure of the configuration's: `--resume` tries it again."""
    tree = yaml.safe_load(small_space.read_text())
    tree |= {"search": {"algorithm": "random", "num_trials": 1}, "confirm": {"top": 1, "seeds": 1}}
    small_space.write_text(yaml.safe_dump(tree))
    sweep = tmp_path / "results/small"
    (sweep / "trials").mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(sweep / "trials")]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a file system cannot be mounted here: it takes root")
    try:
        full = tune(
            "--space", str(small_space), "--data", demo.path, "--results", str(tmp_path / "results"),
            "--set", "resources.num_workers=2",
        )  # fmt: skip
    finally:
        subprocess.run(["umount", "--lazy", sweep / "trials"], check=True)
    assert full.returncode == 2, full.stdout + full.stderr
    line = full.stderr.strip().splitlines()[-1]
    assert "No space left on device" in line
    assert line.endswith(f"once that is mended, go on with:  {resume_command(StorePath(sweep))}")
    assert [one.status for one in load_sweep(StorePath(sweep)).trials] == ["interrupted"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_trial_that_no_cluster_could_hold_is_refused_at_once(tmp_path, small_space, demo):
    ran = tune(
        "--space", str(small_space), "--data", demo.path, "--results", str(tmp_path / "results"),
        "--set", "resources.num_workers=64", "--set", "training.batch_size=64", timeout=250,
    )  # fmt: skip
    assert ran.returncode == 2
    assert "this machine has" in ran.stderr
