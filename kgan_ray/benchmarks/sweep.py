"""How long a sweep would take on this machine, and on several like it."""

from __future__ import annotations

from kgan_ray.data.prepare.service import open_dataset
from kgan_ray.limits import num_cores
from kgan_ray.metrics.suite import Evaluator
from kgan_ray.settings import UserError
from kgan_ray.text import duration
from kgan_ray.tuning.question.space import base_settings, load_space
from kgan_ray.tuning.running.estimate import seconds_in_all, seconds_per_run
from kgan_ray.tuning.running.jobs import num_confirmed
from kgan_ray.tuning.search.proposals import num_explored
from kgan_ray.tuning.state import Sweep


def estimate_sweep(space_file: str, data: str | None, workers: int) -> list[str]:
    """Say what a search space would take here and on `workers` machines like this, a trial on each core or device."""
    if workers < 1:
        raise UserError(f"--workers {workers}: at least 1 is needed")
    space = load_space(space_file)
    settings = base_settings(space, None, {"data.path": data} if data else {})
    view = open_dataset(settings.data.path).view(settings.data)
    per_run = seconds_per_run(settings, Evaluator(view, settings.evaluation))
    cpus = settings.resources.needed_by(settings.resources.num_workers)["CPU"]
    at_once = max(1, int(num_cores() // cpus))
    explored, confirmed = num_explored(space), num_confirmed(Sweep.of(space, settings), space)
    total = seconds_in_all(space, settings, confirmed, per_run)
    steps, there = settings.training.steps, max(per_run, total / at_once / workers)
    return [
        f"{explored} explored and {confirmed} confirming trials of {steps} steps, some {per_run:.0f} s each",
        f"here, {at_once} at a time: about {duration(total / at_once)}",
        f"on {workers} such workers, {at_once * workers} at a time: about {duration(there)}",
    ]
