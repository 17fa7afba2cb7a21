"""How long a sweep will take, from a few measured training steps and one evaluation."""

from __future__ import annotations

import time

from kgan_ray.devices import cpu_threads
from kgan_ray.limits import num_cores
from kgan_ray.metrics.suite import Evaluator
from kgan_ray.settings import Settings
from kgan_ray.training.estimate import seconds_per_step
from kgan_ray.training.gan import GAN
from kgan_ray.tuning.question.sections import Scheduler
from kgan_ray.tuning.question.space import Space
from kgan_ray.tuning.running.neighbours import neighbours
from kgan_ray.tuning.search.early_stopping import bracket_shares
from kgan_ray.tuning.search.proposals import num_explored

_OVERHEAD = 4.0  # seconds to start and end a trial


def seconds_per_run(settings: Settings, evaluator: Evaluator, at_once: int) -> float:
    """Estimate the seconds of one whole training run of one worker on this machine's CPU, where so many run at once."""
    gan = GAN(settings, evaluator.spec)
    here = min(at_once, int(num_cores() // settings.resources.cpus_per_worker))
    with neighbours(settings, evaluator.spec, max(0, here - 1)):
        per_step = seconds_per_step(gan)
        with cpu_threads(settings.resources.threads):
            started = time.perf_counter()
            evaluator.evaluate(gan)
            per_evaluation = time.perf_counter() - started
    evaluations = 1 + settings.training.steps / settings.evaluation.every_steps
    return per_step * settings.training.steps + per_evaluation * evaluations + _OVERHEAD


def seconds_in_all(space: Space, settings: Settings, confirmed: int, per_run: float) -> float:
    """Estimate the seconds of a sweep with so many confirmation runs, its trials one after the other."""
    return (num_explored(space) * explored_share(space.scheduler, settings) + confirmed) * per_run


def explored_share(scheduler: Scheduler, settings: Settings) -> float:
    """Return the part of its steps that an explored trial takes on average, early stopping considered."""
    if scheduler.type in ("none", "pbt"):
        return 1.0
    first = scheduler.grace_evaluations * settings.evaluation.every_steps
    return sum(
        part
        * _share(first * scheduler.reduction_factor**bracket, scheduler.reduction_factor, settings.training.steps)
        for bracket, part in enumerate(bracket_shares(scheduler, settings))
    )


def _share(rung: int, reduction_factor: int, steps: int) -> float:
    share, alive, done = 0.0, 1.0, 0
    while rung < steps:
        share += alive * (rung - done) / steps
        alive, done, rung = alive / reduction_factor, rung, rung * reduction_factor
    return share + alive * (steps - done) / steps
