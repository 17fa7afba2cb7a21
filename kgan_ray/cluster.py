"""Ray, started quietly or joined, and what it has. Every Ray start of the project goes through `connect`."""

from __future__ import annotations

import logging
import math
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from kgan_ray.devices import fitting_runs
from kgan_ray.limits import memory_limit, num_cores
from kgan_ray.resources import ResourceSettings
from kgan_ray.settings import UserError

if TYPE_CHECKING:
    import psutil  # type: ignore[import-untyped]
    import ray as ray_module
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",  # Tune's old reporter can be silenced; the new one cannot
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # a worker's report waits for the controller's next poll
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_DATA_LOG_LEVEL": "CRITICAL",  # read when ray.data is imported; what its tasks raise is raised here too
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "60",
}

RAYLET = "ray.raylet"  # the logger of what Ray's node says
WORKER_BYTES = 600 << 20  # that a training process takes, its data aside; 350 to 500 MiB were measured
_STORE_BYTES = 512 << 20  # of the object store, beside what is shared: Ray Data's blocks on their way
_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_TO_ANSWER = 10.0
_LONGEST_TEMPORARY = 30


def connect(*, dashboard: bool = False, bytes_to_share: int = 0) -> ray_module:
    """Join the cluster that $RAY_ADDRESS names, or start one on this machine's loopback; twice is harmless.

    `dashboard` is needed where driver trials are stopped early: Ray frees their workers through it. A Ray that is started
    here has room in its object store for `bytes_to_share`, if the machine has; what does not fit goes to the disk.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        return ray
    address = os.environ.get("RAY_ADDRESS")
    cluster = _answering(address) if address and address != "local" else None
    quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL, "ignore_reinit_error": True}
    _log_what_the_raylet_says()
    try:
        if cluster:
            ray.init(address=cluster, **quiet)
        else:
            _keep_to_loopback()
            ray.init(
                address="local",
                num_cpus=num_cores(),
                include_dashboard=dashboard,
                dashboard_host="127.0.0.1",
                **ray_memory(bytes_to_share),
                _temp_dir=_temporary_folder(),
                **quiet,
            )
    # Ray raises that very class where a node takes too long to start.
    except Exception as error:  # noqa: BLE001
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        what = f"the cluster at {cluster} cannot be joined" if cluster else "Ray cannot be started here"
        raise UserError(f"{what}: {reason}") from None
    for name in ("ray", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # where it was imported before
    end_politely()  # Ray, when it starts, has a SIGTERM end the driver at once
    return ray


def _log_what_the_raylet_says() -> None:
    """Send what Ray prints of its node to the logger `RAYLET`: a paragraph for a process that dies, pages for a disk that is full.

    Ray has no option for it.
    """
    from ray._private import worker

    def log(data: Mapping[str, Any], ignore_prefix: bool = False) -> None:
        logging.getLogger(RAYLET).error("%s", " ".join(data["lines"]))

    worker.print_to_stdstream = log
    logging.getLogger(RAYLET).setLevel(logging.CRITICAL)  # unheard, until a file takes it


def end_politely() -> None:
    """Have a scheduler's way to end a job, SIGTERM, end this process as politely as Ctrl-C does."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _as_ctrl_c)


def _as_ctrl_c(number: int, frame: object) -> None:
    """Do what Ctrl-C does, also in what a script has started with `&`, where the shell has Ctrl-C ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)


def ray_memory(bytes_to_share: int) -> dict[str, int]:
    """Return Ray's options of memory: an object store for what is shared, at most half of what there is, and for runs the rest.

    Ray itself sees a container's limit, but not that of a cgroup above its own, as SLURM and systemd set it.
    """
    import psutil

    free, limit = psutil.virtual_memory().available, memory_limit()
    store = _STORE_BYTES + min(bytes_to_share, min(free, limit) // 2)
    is_limited = limit < psutil.virtual_memory().total
    rest = min(free, limit - WORKER_BYTES) - store  # the driver takes what a worker does
    return {"object_store_memory": store, **({"_memory": max(1, rest)} if is_limited else {})}


def is_cluster_at_hand() -> bool:
    """Return whether `connect` would join what runs already, or is told by $RAY_ADDRESS what to join."""
    ray = sys.modules.get("ray")
    return bool(os.environ.get("RAY_ADDRESS") or (ray and ray.is_initialized()))


def _keep_to_loopback() -> None:
    """Let the Ray that starts next listen on 127.0.0.1 alone, as it does on macOS and Windows.

    On Linux its servers listen on every address of the machine, and `_node_ip_address="127.0.0.1"` is turned back into
    the host's. $RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 would do the same, but is read when ray is first imported.
    """
    from ray._private import ray_constants

    ray_constants.ENABLE_RAY_CLUSTER = False


def _answering(address: str) -> str:
    """Return the address of the cluster that $RAY_ADDRESS names. Raises UserError unless something answers there.

    Ray itself would try for minutes, without a word.
    """
    from ray._private.services import canonicalize_bootstrap_address_or_die

    where = f"$RAY_ADDRESS={address}"
    if address.startswith("ray://"):
        raise UserError(f"{where}: Ray Client is not supported; run on the cluster, by `ray job submit`")
    if address != "auto" and not re.fullmatch(r"[^:/\s]+:\d{1,5}|\[[\da-f:]+\]:\d{1,5}", address):
        raise UserError(f"{where}: expected HOST:PORT, such as 10.0.0.5:6379, or auto, or local")
    try:
        host, port = canonicalize_bootstrap_address_or_die(address).rsplit(":", 1)
        socket.create_connection((host, int(port)), timeout=_SECONDS_TO_ANSWER).close()
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).splitlines()[0]
        raise UserError(
            f"{where}: no Ray cluster answers there ({reason}); start it, or unset the variable to use this machine"
        ) from None
    return f"{host}:{port}"


def _temporary_folder() -> str | None:
    """Return where Ray keeps its session; None for its own choice.

    The path of a Unix socket has at most 107 bytes, of which Ray's session takes some 70: below a long $TMPDIR it
    could not start.
    """
    if "RAY_TMPDIR" in os.environ or len(os.environ.get("TMPDIR", "")) <= _LONGEST_TEMPORARY:
        return None
    return "/tmp/ray"


def on_this_node() -> NodeAffinitySchedulingStrategy:
    """Return Ray's scheduling strategy for what must live as long as this driver does: other nodes come and go."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def end_everything(code: int) -> None:
    """Kill every process that this one has started, Ray's among them, and end this one at once."""
    import psutil

    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            child.kill()
    os._exit(code)


@contextmanager
def node_watched(advice: str) -> Iterator[None]:
    """End this process, with a line that closes with `advice`, if Ray's node on this machine dies meanwhile.

    Ray itself would let a driver without its node wait for ever, or end it without a word as soon as an object is missing.
    """
    raylet = _raylet()

    def watch(is_over: threading.Event) -> None:
        while not is_over.wait(_SECONDS_BETWEEN_LOOKS):
            if raylet and _has_ended(raylet) and not is_over.is_set():
                os.write(2, f"\nerror: Ray's node on this machine has died; {advice}\n".encode())
                end_everything(1)

    with meanwhile(watch):
        yield


def _raylet() -> psutil.Process | None:
    """Return the process that is Ray's node on this machine, if it can be seen: a node that the cluster gives up ends it too."""
    import psutil
    import ray

    address = ray._private.worker._global_node.raylet_socket_name
    raylets = (one for one in psutil.process_iter(["name", "cmdline"]) if one.info["name"] == "raylet")
    return next((one for one in raylets if any(address in word for word in one.info["cmdline"] or ())), None)


def _has_ended(process: psutil.Process) -> bool:
    """Return whether a process is gone, or but a zombie that its parent has not asked for."""
    import psutil

    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


@contextmanager
def meanwhile(watch: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run `watch(is_over)` in a thread.

    On exit, set the event and join the thread: a call to Ray after shutdown would start a new Ray.
    """
    is_over = threading.Event()
    watcher = threading.Thread(target=watch, args=(is_over,), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        is_over.set()
        watcher.join(timeout=10)  # no longer: a Tune trial that is given up never returns from its report


def cluster_resources() -> dict[str, float]:
    """Return what the connected cluster has, or what its autoscaler may bring it to, by kind ("CPU", "GPU", ...)."""
    import ray
    from ray._private.state import state  # as ray.train and ray.data do: there is no public way

    have = dict(ray.cluster_resources())
    for kind, most in (state.get_max_resources_from_cluster_config() or {}).items():
        have[kind] = max(have.get(kind, 0.0), float(most))
    return have


def runs_that_fit(resources: ResourceSettings, *, where: str) -> int:
    """Return how many training runs of these resources the connected cluster can hold at once, at least 1.

    An autoscaling cluster counts as grown to its limits: its workers start when the runs ask for them. A container of many
    cores may have memory for a few runs only.

    Raises UserError where not even one fits, for which Ray would wait for ever: it says what there is, and blames the GPUs if it
    is these that are missing, the cores of a single worker, or else `where`.
    """
    import ray

    have = cluster_resources()
    fewest = resources.fewest_workers
    need = resources.needed_by(fewest)
    fit = fitting_runs(resources, have)
    if fit < 1:
        if need.get("GPU", 0.0) > have.get("GPU", 0.0):
            where = f"resources.gpus_per_worker={resources.gpus:g}"
        elif fewest == 1:
            where = f"resources.cpus_per_worker={resources.cpus_per_worker:g}"
        nodes = len(ray.nodes())
        place = "this machine has" if nodes == 1 else f"the {nodes} nodes of the cluster have"
        workers = f"{fewest} workers need" if fewest > 1 else "1 worker needs"
        raise UserError(f"{where}: {workers} {_devices(need)}; {place} {_devices(have)}")
    by_memory = have.get("memory", math.inf) / (resources.num_workers * WORKER_BYTES)
    return max(1, math.floor(min(fit * fewest / resources.num_workers + 1e-9, by_memory)))


def _devices(amounts: Mapping[str, float]) -> str:
    """Return `4 CPU cores and 1 GPU`."""
    cores, gpus = amounts.get("CPU", 0.0), amounts.get("GPU", 0.0)
    return f"{cores:g} CPU core{'' if cores == 1 else 's'} and {f'{gpus:g}' if gpus else 'no'} GPU{'s' if gpus > 1 else ''}"
