"""`ray up` with the commands of cluster.yaml on three hosts made of namespaces, a sweep as a job, `ray down`.

Everything runs in one process namespace whose first process is the lab: if that is killed, all of it is gone.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "lab"))

LAB = Path(__file__).parent / "lab" / "lab.py"
NAMESPACES = "unshare --mount --pid --net --uts --ipc --fork --kill-child --mount-proc".split()
SECONDS = 900


def why_not() -> str:
    """What this machine lacks for the lab; empty where it can run."""
    if not os.environ.get("KGAN_RAY_LAB"):
        return "set KGAN_RAY_LAB=1: five minutes, and a whole machine to itself"
    if sys.platform != "linux" or os.geteuid() != 0:
        return "hosts made of namespaces need root on Linux"
    missing = [
        name for name in ("unshare", "ip", "ssh", "ssh-keygen", "rsync", "sshd", "pgrep") if not shutil.which(name)
    ]
    if missing:
        return f"not installed: {', '.join(missing)} (packages openssh-server, rsync, iproute2, procps)"
    probe = [*NAMESPACES, "ip", "link", "add", "probe", "type", "bridge"]
    done = subprocess.run(probe, capture_output=True, text=True, check=False)
    return f"namespaces are not allowed here: {done.stderr.strip()}" if done.returncode else ""


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 15)
def test_a_sweep_on_a_cluster_of_three_hosts(tmp_path):
    if reason := why_not():
        pytest.skip(reason)
    try:
        done = subprocess.run(
            [*NAMESPACES, sys.executable, str(LAB), str(tmp_path / "lab")],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    finally:
        shutil.rmtree(tmp_path / "lab", ignore_errors=True)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"seconds: {found['seconds']}")
    assert "h1" in found["trivial"]
    assert "http://10.77.0.11:5000" in found["trivial"]
    stranger = found["stranger"]  # someone on the head's loopback without the token
    assert stranger["code"] != 0
    assert not stranger["marked"]
    assert "authentication" in stranger["said"].lower(), stranger["said"]
    assert len(found["trials"]) >= 5
    assert set(found["trials"].values()) <= {"finished", "stopped"}
    assert found["runs_recorded"] == len(found["trials"]) + 1  # and the sweep's own
    mlflow = found["mlflow"]
    assert set(mlflow["without"]) == {401}  # neither read nor written
    assert set(mlflow["wrong"]) == {401}
    assert set(mlflow["right"]) == {200}
    assert mlflow["through_ssh"] == [200, 200, 200]
    assert mlflow["listens"] == ["10.77.0.11:5000", "127.0.0.1:5000"]
    assert mlflow["modes"] == ["700", "600", "600"]
    assert not mlflow["password_seen"]
    assert found["left_running"] == []


def test_the_lab_changes_only_where_the_hosts_are():
    import yaml
    from lab import CHECKOUT, on_premises
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load((CHECKOUT / "cluster.yaml").read_text(encoding="utf-8"))
    ours = on_premises(config, Path("key"))
    validate_config(prepare_config(dict(ours)))
    assert ours["setup_commands"] == config["setup_commands"]
    for name in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert len(ours[name]) == len(config[name])
        changed = [line for line, theirs in zip(ours[name], config[name], strict=True) if line != theirs]
        assert len(changed) == 1
        assert "--num-cpus=" in changed[0]
