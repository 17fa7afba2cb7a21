"""The job script of docs/slurm.md, run as SLURM would run it: stopped before its time is over, requeued, and beside another."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.commands import ROOT, write_small_space
from helpers.processes import start, wait_for
from kgan_ray.storage import StorePath
from kgan_ray.tuning.state import load_sweep

SCRIPT = re.findall(
    r"```bash\n(.*?)```", (ROOT / "docs" / "slurm.md").read_text(encoding="utf-8"), flags=re.DOTALL
)[0]


@pytest.fixture
def node(tmp_path, demo):
    """A folder that looks to the script like a checkout on a node, with a `scontrol` that notes what it is asked."""
    for name, text in {
        ".venv/bin/python": f'#!/bin/sh\nexec {sys.executable} "$@"\n',
        "bin/scontrol": f'#!/bin/sh\necho "$@" >> {tmp_path}/requeued\n',
    }.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True)
        file.write_text(text)
        file.chmod(0o755)
    (tmp_path / "requeued").touch()
    return tmp_path


def start_job(node: Path, space: Path, data: str, name: str, number: int) -> subprocess.Popen:
    """Start the script as a batch job: only its question is another, and its cores are fewer."""
    script, count = re.subn(
        r"--space disc (.*) --name disc-ntu60 .*ntu60-xsub",
        rf"--space {space} \1 --name {name} --data {data}",
        SCRIPT,
    )
    assert count == 1
    environment = os.environ | {
        "SLURM_JOB_ID": str(number),
        "PATH": f"{node / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    script = script.replace("kgan_ray.tune ", "kgan_ray.tune --concurrent 1 ")
    return start(["bash", "-c", script], cwd=node, env=environment)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_job_is_stopped_by_its_signal_requeued_and_ends_beside_another(node, demo, tiny):
    space = write_small_space(node, tiny)
    first, other = (start_job(node, space, demo.path, f"sweep{number}", number) for number in (1, 2))
    trials = node / "results" / "sweep1" / "trials"
    wait_for(lambda: list(trials.glob("*/checkpoints/step-*")), first)
    first.send_signal(signal.SIGTERM)
    assert first.wait(200) == 130
    assert (node / "requeued").read_text() == "requeue 1\n"
    assert {one.status for one in load_sweep(StorePath(node / "results" / "sweep1")).trials} != {"finished"}

    again = start_job(node, space, demo.path, "sweep1", 1)
    assert (again.wait(400), other.wait(400)) == (0, 0)
    assert (node / "requeued").read_text() == "requeue 1\n"
    for name in ("sweep1", "sweep2"):
        assert {one.status for one in load_sweep(StorePath(node / "results" / name)).trials} == {"finished"}
    assert not [folder for number in (1, 2) for folder in Path("/tmp").glob(f"ray-{number}-*")]
