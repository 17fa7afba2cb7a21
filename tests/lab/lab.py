"""A cluster on one machine: hosts made of namespaces, `ray up`, a sweep by `ray job submit`, `ray down`.

    unshare --mount --pid --net --uts --ipc --fork --kill-child --mount-proc python tests/lab/lab.py FOLDER

This process plays the user's laptop and is the first of its process namespace: when it ends, however it ends, the hosts end.
Its last line of output is a JSON object with what was found and the seconds that every part took.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

CHECKOUT = Path(__file__).parents[2]
ADDRESSES = {f"h{number}": f"10.77.0.1{number}" for number in (1, 2, 3)}
HEAD, *WORKERS = ADDRESSES.values()
JOBS = "http://127.0.0.1:8265"
Try = tuple[str, str, bytes | None]  # method, path, body
RECORD = f"http://{HEAD}:5000"
# What a stranger would try on MLflow: to read the page, the runs and the artifacts, and to write each of them.
TRIES = (
    ("GET", "/", None),
    ("POST", "/api/2.0/mlflow/experiments/search", b'{"max_results": 3}'),
    ("GET", "/api/2.0/mlflow-artifacts/artifacts?path=", None),
    ("POST", "/api/2.0/mlflow/experiments/create", b'{"name": "stranger"}'),
    ("POST", "/api/2.0/mlflow/runs/create", b'{"experiment_id": "0"}'),
    ("PUT", "/api/2.0/mlflow-artifacts/artifacts/stranger.txt", b"marked"),
    ("POST", "/api/2.0/mlflow/users/create", b'{"username": "stranger", "password": "stranger-stranger"}'),
)


def on_premises(config: dict[str, Any], key: Path) -> dict[str, Any]:
    """cluster.yaml for the hosts of the lab: other machines and limits; set-up and start commands as they are."""
    ours = {name: config[name] for name in ("cluster_name", "setup_commands", "rsync_exclude", "file_mounts")}
    ours["file_mounts"] = {**ours["file_mounts"], "~/kgan_ray": str(CHECKOUT)}
    ours["provider"] = {"type": "local", "head_ip": HEAD, "worker_ips": WORKERS}
    ours["auth"] = {"ssh_user": "root", "ssh_private_key": str(key)}
    ours["min_workers"] = ours["max_workers"] = len(WORKERS)
    # What the node types say in the cloud: the head runs no trials. A lab host must not think it has the whole machine.
    for role, cpus in (("head", 0), ("worker", 1)):
        name = f"{role}_start_ray_commands"
        ours[name] = [
            line.replace("ray start", f"ray start --num-cpus={cpus} --object-store-memory=200000000")
            for line in config[name]
        ]
    return ours


class Lab:
    """The laptop and its hosts."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.seconds, self.said = folder, {}, ""
        self.cluster = folder / "cluster.yaml"
        self.home = folder / "laptop"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
            "HOME": str(self.home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token",
            "RAY_UP_enable_autoscaler_v2": "0",  # with provider local, v2 starts one worker too few (Ray 2.60)
            "RAY_USAGE_STATS_ENABLED": "0",
        }

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        print(f"--- {part}", flush=True)
        started = time.monotonic()
        yield
        self.seconds[part] = round(time.monotonic() - started, 1)

    def run(self, *command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, env=self.environment | environment, capture_output=True, text=True, check=False, timeout=400
        )
        if check and done.returncode:
            raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def on_host(self, address: str, command: str, check: bool = True) -> str:
        options = ("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR")
        return self.run(
            "ssh", *options, "-i", str(self.folder / "key"), f"root@{address}", command, check=check
        ).stdout

    def start_hosts(self) -> None:
        self.home.mkdir()
        (self.folder / "shared").mkdir()
        self.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / "key"))
        self.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / "host_key"))
        (self.folder / "sshd_config").write_text(
            f"HostKey {self.folder}/host_key\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n"
            "PidFile none\nUseDNS no\nMaxStartups 50\nStrictModes no\nSubsystem sftp internal-sftp\n",
            encoding="utf-8",
        )
        shared = self._make_python()
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "link", "add", "lab", "type", "bridge")
        self.run("ip", "address", "add", "10.77.0.1/24", "dev", "lab")
        self.run("ip", "link", "set", "lab", "up")
        namespaces = "--mount --pid --net --uts --ipc --fork --kill-child --mount-proc".split()
        script = str(Path(__file__).with_name("host.sh"))
        for name, address in ADDRESSES.items():
            with (self.folder / f"{name}.log").open("w") as log:
                host = subprocess.Popen(
                    ["unshare", *namespaces, "bash", script, name, address, str(self.folder), *shared],
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                )
            self._wait_for_own_network(host)
            self.run(
                "ip", "link", "add", f"v-{name}", "type", "veth", "peer", "name", "eth0", "netns", str(host.pid)
            )
            self.run("ip", "link", "set", f"v-{name}", "master", "lab", "up")
        for name, address in ADDRESSES.items():
            for _ in range(100):
                if self.on_host(address, "echo here", check=False).strip() == "here":
                    break
                time.sleep(0.2)
            else:
                raise SystemExit(f"{name} did not start:\n{(self.folder / f'{name}.log').read_text()}")

    def _wait_for_own_network(self, host: subprocess.Popen[bytes]) -> None:
        ours = Path("/proc/self/ns/net").readlink()
        while host.poll() is None and Path(f"/proc/{host.pid}/ns/net").readlink() == ours:
            time.sleep(0.02)

    def _make_python(self) -> list[str]:
        """A virtual environment that sees this one's packages; returns what every host must be able to read."""
        venv = self.folder / "venv"
        base = Path(sys.base_prefix)
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        # On the hosts it is /root/venv: scripts start with that path.
        self.run(str(base / "bin" / version), "-m", "venv", "--without-pip", "--copies", str(venv))
        packages = Path(sys.prefix) / "lib" / version / "site-packages"
        (venv / "lib" / version / "site-packages" / "lab.pth").write_text(f"{packages}\n", encoding="utf-8")
        for name in ("ray", "mlflow", "pip"):
            body = (Path(sys.prefix) / "bin" / name).read_text(encoding="utf-8").split("\n", 1)[1]
            script = venv / "bin" / name
            script.write_text(f"#!/root/venv/bin/python\n{body}", encoding="utf-8")
            script.chmod(0o755)
        (self.folder / "path").write_text(str(base / "bin"), encoding="utf-8")
        return [str(base), str(sys.prefix)]

    def up(self) -> None:
        self.run("ray", "get-auth-token", "--generate")
        config = yaml.safe_load((CHECKOUT / "cluster.yaml").read_text(encoding="utf-8"))
        self.cluster.write_text(yaml.safe_dump(on_premises(config, self.folder / "key")), encoding="utf-8")
        done = self.run("ray", "up", "-y", str(self.cluster), "--no-config-cache")
        self.said = done.stdout + done.stderr

    def wait_for_workers(self) -> None:
        count = "import ray; ray.init(log_to_driver=False); print('alive', sum(n['Alive'] for n in ray.nodes()))"
        for _ in range(20):
            command = f'RAY_AUTH_MODE=token RAY_ADDRESS=auto ~/venv/bin/python -c "{count}"'
            if f"alive {len(ADDRESSES)}" in self.on_host(HEAD, command, check=False):
                return
            time.sleep(1)
        log = self.on_host(HEAD, "tail -n 40 /tmp/ray/session_latest/logs/monitor.*", check=False)
        raise SystemExit(f"the workers did not come:\n{log}")

    def submit(self, command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run(
            "ray", "job", "submit", "--address", JOBS, "--", "bash", "-c", command, check=check, **environment
        )

    def mlflow_answers(self, user: str | None, address: str = RECORD, tries: Sequence[Try] = TRIES) -> list[int]:
        """Return the status of MLflow's answer to each try of a client that says it is `user` ("name:password")."""
        login = {"Authorization": f"Basic {b64encode(user.encode()).decode()}"} if user else {}
        statuses = []
        for method, path, body in tries:
            headers = {"Content-Type": "application/json", **login}
            request = urllib.request.Request(address + path, data=body, headers=headers, method=method)
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    statuses.append(answer.status)
            except urllib.error.HTTPError as error:
                statuses.append(error.code)
        return statuses

    def look_at_mlflow(self) -> dict[str, Any]:
        """Return who was let in, and where the password is seen."""
        with self.port_forwarded(5000):
            credentials = self.run(
                "ray", "exec", str(self.cluster), "--no-config-cache", "cat ~/.mlflow/credentials"
            )
            password = credentials.stdout.split("mlflow_tracking_password = ")[1].split()[0]
            user = f"kgan_ray:{password}"
            through_ssh = self.mlflow_answers(user, "http://127.0.0.1:5000", TRIES[:3])
        seen = [self.on_host(address, "ps -eo args") for address in ADDRESSES.values()]
        seen.append(self.on_host(HEAD, "cat ~/mlflow.log"))
        return {
            "without": self.mlflow_answers(None),
            "wrong": self.mlflow_answers("kgan_ray:not-the-password"),
            "right": self.mlflow_answers(user),
            "through_ssh": through_ssh,
            "listens": sorted(self.on_host(HEAD, "ss -ltnH 'sport = :5000' | awk '{print $4}'").split()),
            "modes": self.on_host(HEAD, "cd ~/.mlflow && stat -c %a . credentials server.ini").split(),
            "password_seen": any(password in text for text in (*seen, self.said)),
        }

    @contextmanager
    def port_forwarded(self, port: int) -> Iterator[None]:
        """Forward a port of the head's loopback to the laptop's, as the README does."""
        options = ("--no-config-cache", "--port", str(port), "--remote-port", str(port))
        forward = subprocess.Popen(
            ["ray", "dashboard", str(self.cluster), *options],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            for _ in range(100):
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                time.sleep(0.3)
            yield
        finally:
            forward.terminate()

    def down(self) -> None:
        self.run("ray", "down", "-y", str(self.cluster))
        for address in WORKERS:  # `ray down` leaves Ray running on machines that it did not rent
            self.on_host(address, "~/venv/bin/ray stop", check=False)

    def left_running(self) -> list[str]:
        found = [
            self.on_host(address, "pgrep -l 'raylet|gcs_server'", check=False) for address in ADDRESSES.values()
        ]
        return [line for lines in found for line in lines.splitlines()]

    def runs_recorded(self) -> int:
        with sqlite3.connect(self.folder / "shared/mlflow/mlflow.db") as database:
            return int(
                database.execute("select count(*) from runs where lifecycle_stage = 'active'").fetchone()[0]
            )


SWEEP = """cd ~/kgan_ray && export RAY_ADDRESS=auto OMP_NUM_THREADS=1 &&
~/venv/bin/python -m kgan_ray.prepare --demo --num-sequences 240 --output ~/shared/demo &&
~/venv/bin/python -m kgan_ray.tune --space search_spaces/smoke.yaml --data ~/shared/demo --results ~/shared/results \
    --set training.steps=12 --set evaluation.every_steps=6 --set training.log_every=6 --set evaluation.num_motions=60"""


def main(folder: Path) -> None:
    lab = Lab(folder)
    with lab.timed("hosts"):
        lab.start_hosts()
    with lab.timed("ray up"):
        lab.up()
    with lab.timed("workers"):
        lab.wait_for_workers()
    with lab.port_forwarded(8265):
        with lab.timed("trivial job"):
            trivial = lab.submit("hostname; echo $MLFLOW_TRACKING_URI")
        stranger = folder / "stranger"
        stranger.mkdir()
        refused = lab.submit("touch ~/shared/marked", check=False, HOME=str(stranger), RAY_AUTH_MODE="disabled")
        with lab.timed("sweep"):
            sweep = lab.submit(SWEEP)
    runs_recorded = lab.runs_recorded()
    with lab.timed("MLflow's password"):
        mlflow = lab.look_at_mlflow()
    with lab.timed("ray down"):
        lab.down()
    record = json.loads((folder / "shared/results/smoke/sweep.json").read_text(encoding="utf-8"))
    found = {
        "seconds": lab.seconds,
        "trivial": trivial.stdout,
        "stranger": {
            "code": refused.returncode,
            "marked": (folder / "shared/marked").exists(),
            "said": refused.stdout + refused.stderr,
        },
        "sweep": sweep.stdout[-2000:],
        "trials": {trial["name"]: trial["status"] for trial in record["trials"]},
        "runs_recorded": runs_recorded,
        "mlflow": mlflow,
        "left_running": lab.left_running(),
    }
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    work = Path(sys.argv[1]).resolve()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    main(work)
