"""How long a sweep would take on this machine, and on several like it."""

from __future__ import annotations

import torch

from kgan_ray.data.prepare.service import open_dataset
from kgan_ray.devices import line_of_runs, with_devices
from kgan_ray.limits import num_cores
from kgan_ray.metrics.suite import Evaluator
from kgan_ray.settings import Overrides, UserError
from kgan_ray.text import duration, span
from kgan_ray.tuning.request import new_request
from kgan_ray.tuning.running.estimate import seconds_in_all, seconds_per_run
from kgan_ray.tuning.search.proposals import num_explored


def estimate_sweep(
    space: str,
    workers: int,
    *,
    preset: str | None = None,
    overrides: Overrides | None = None,
    data: str | None = None,
) -> list[str]:
    """Say what a sweep would take on this machine's CPU and on `workers` such machines, a trial on each core.

    The question is asked as `run_sweep` is.
    """
    if workers < 1:
        raise UserError(f"--workers {workers}: at least 1 is needed")
    request = new_request(space, preset=preset, overrides=overrides, data=data)
    settings = with_devices(request.settings, {"CPU": num_cores()})
    view = open_dataset(settings.data.path).view(settings.data)
    cpus = settings.resources.needed_by(settings.resources.num_workers)["CPU"]
    at_once = max(1, int(num_cores() // cpus))
    per_run = seconds_per_run(settings, Evaluator(view, settings.evaluation), at_once)
    confirmed = request.num_confirmed, request.most_seeds * request.space.num_compared
    totals = [seconds_in_all(request.space, settings, count, per_run) / at_once for count in confirmed]
    here, there = (
        span(*(duration(max(per_run, total / machines)) for total in totals)) for machines in (1, workers)
    )
    return [
        line_of_runs(settings.resources, at_once, {"CPU": num_cores(), "GPU": torch.cuda.device_count()}),
        f"{num_explored(request.space)} explored and {span(*confirmed)} confirming trials "
        f"of {settings.training.steps} steps, some {per_run:.0f} s each",
        f"here, {at_once} at a time: about {here}",
        f"on {workers} such workers, {at_once * workers} at a time: about {there}",
    ]
