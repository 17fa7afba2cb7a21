"""How long a sweep would take on this machine, and on several like it."""

from __future__ import annotations

from kgan_ray.data.prepare.service import open_dataset
from kgan_ray.limits import num_cores
from kgan_ray.metrics.suite import Evaluator
from kgan_ray.settings import Overrides, UserError
from kgan_ray.text import duration
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
    settings = request.settings
    view = open_dataset(settings.data.path).view(settings.data)
    per_run = seconds_per_run(settings, Evaluator(view, settings.evaluation))
    cpus = settings.resources.needed_by(settings.resources.num_workers)["CPU"]
    at_once = max(1, int(num_cores() // cpus))
    explored, confirmed = num_explored(request.space), request.num_confirmed
    total = seconds_in_all(request.space, settings, confirmed, per_run)
    steps, there = settings.training.steps, max(per_run, total / at_once / workers)
    return [
        f"{explored} explored and {confirmed} confirming trials of {steps} steps, some {per_run:.0f} s each",
        f"here, {at_once} at a time: about {duration(total / at_once)}",
        f"on {workers} such workers, {at_once * workers} at a time: about {duration(there)}",
    ]
