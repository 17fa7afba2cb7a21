"""Ray, started quietly or joined, and what it has. Every Ray start of the project goes through `connect`."""

from __future__ import annotations

import logging
import math
import os
from typing import TYPE_CHECKING

from kgan_ray.settings import ResourceSettings, UserError

if TYPE_CHECKING:
    import ray as ray_module

QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",  # Tune's old reporter can be silenced; the new one cannot
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # a worker's report waits for the controller's next poll
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_DATA_LOG_LEVEL": "ERROR",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "60",
}


def connect(*, dashboard: bool = False, object_store_bytes: int = 512 << 20) -> ray_module:
    """Join the cluster that $RAY_ADDRESS names, or start one on this machine's loopback; twice is harmless.

    `dashboard` is needed where driver trials are stopped early: Ray frees their workers through it.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        return ray
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "ignore_reinit_error": True}
    if os.environ.get("RAY_ADDRESS"):
        ray.init(address="auto", **quiet)
    else:
        ray.init(
            address="local",
            num_cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            include_dashboard=dashboard,
            dashboard_host="127.0.0.1",
            object_store_memory=object_store_bytes,
            **quiet,
        )
    for name in ("ray", "ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return ray


def runs_that_fit(resources: ResourceSettings, *, where: str) -> int:
    """How many training runs of these resources the connected cluster can hold at once, at least 1.

    Raises UserError, saying what the cluster has, where not even one fits: Ray would wait for ever.
    """
    import ray

    have = ray.cluster_resources()
    cpus, gpus = have.get("CPU", 0.0), have.get("GPU", 0.0)
    need_cpus = resources.num_workers * resources.cpus_per_worker
    need_gpus = resources.num_workers * resources.gpus_per_worker
    fit = cpus / need_cpus
    if need_gpus:
        fit = min(fit, gpus / need_gpus)
    if fit < 1:
        raise UserError(
            f"{where}: {resources.num_workers} workers need {need_cpus:g} CPUs and {need_gpus:g} GPUs; "
            f"the cluster has {cpus:g} CPUs and {gpus:g} GPUs on {len(ray.nodes())} node(s)"
        )
    return math.floor(fit + 1e-9)
