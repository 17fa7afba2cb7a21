"""What happens once before a sweep's trials start: each group's extractor is there, and the time that they will take is told."""

from __future__ import annotations

from kgan_ray.data.dataset import Dataset
from kgan_ray.metrics.suite import Evaluator
from kgan_ray.settings import UserError, override
from kgan_ray.text import duration, span
from kgan_ray.tuning.running.estimate import seconds_in_all, seconds_per_run
from kgan_ray.tuning.running.jobs import num_confirmed
from kgan_ray.tuning.running.runner import Runner
from kgan_ray.tuning.search.proposals import num_explored


def prepare_extractors(runner: Runner, dataset: Dataset) -> Evaluator:
    """Train or load the extractor of each group before any trial needs it; return an evaluator of the last group.

    Raises UserError where a sweep that goes on began with another extractor.
    """
    sweep = runner.sweep
    for group, changes in (runner.space.groups or {"": {}}).items():
        settings = override(runner.settings, changes)
        evaluator = Evaluator(dataset.view(settings.data), settings.evaluation, progress=runner.announce)
        before = sweep.extractors.setdefault(group, evaluator.extractor.hash)
        if before != evaluator.extractor.hash:
            raise UserError(
                f"the extractor of {dataset.path} is not the one that sweep {sweep.name} began with "
                f"({evaluator.extractor.hash[:12]}, {before[:12]}): its results could not be compared"
            )
    return evaluator


def announce_estimate(runner: Runner, evaluator: Evaluator) -> float | None:
    """Say how many trials there are and how long they will take; return the seconds, None where only a GPU could tell."""
    space, settings = runner.space, runner.settings
    limit = f"; the budget is {runner.budget}" if str(runner.budget) else ""
    confirmed = num_confirmed(runner.sweep, space), runner.most_confirmed
    trials = f"{span(*(num_explored(space) + count for count in confirmed))} trials"
    if settings.resources.num_workers > 1 or settings.resources.gpus:
        runner.announce(f"{trials} of up to {settings.training.steps} steps, {runner.at_once} at a time{limit}")
        return None
    per_run = seconds_per_run(settings, evaluator, runner.at_once)
    guess, most = (seconds_in_all(space, settings, count, per_run) / runner.at_once for count in confirmed)
    runner.announce(
        f"{trials}, {runner.at_once} at a time, some {per_run:.0f} s for a whole one: "
        f"about {span(duration(guess), duration(most))} in all{limit}"
    )
    return guess
