"""What happens once before a sweep's trials start: extractors and real features are there, and the time they take is told."""

from __future__ import annotations

from contextlib import suppress

from kgan_ray.data.dataset import Dataset
from kgan_ray.metrics.real import split_features
from kgan_ray.metrics.suite import Evaluator
from kgan_ray.settings import Settings, UserError, override
from kgan_ray.text import duration, span
from kgan_ray.training.gan import GAN
from kgan_ray.training.loop import settle
from kgan_ray.training.networks import standardise
from kgan_ray.tuning.question.space import Space
from kgan_ray.tuning.running.estimate import seconds_in_all, seconds_per_run
from kgan_ray.tuning.running.jobs import num_confirmed
from kgan_ray.tuning.running.runner import Runner
from kgan_ray.tuning.search.proposals import num_explored


def group_settings(space: Space, settings: Settings) -> dict[str, Settings]:
    """Return the settings that each group's trials start from; those of the group "" where the space has none."""
    return {group: override(settings, changes) for group, changes in (space.groups or {"": {}}).items()}


def prepare_measures(runner: Runner, dataset: Dataset) -> Evaluator:
    """Make or find each group's extractor and real features before any trial needs them; return the last group's evaluator.

    On a GPU the first trial computes the features, so that they are rounded as those of generated motions are.
    Raises UserError where a sweep that goes on began with another extractor.
    """
    sweep = runner.sweep
    for group, settings in group_settings(runner.space, runner.settings).items():
        evaluator = Evaluator(dataset.view(settings.data), settings.evaluation, progress=runner.announce)
        before = sweep.extractors.setdefault(group, evaluator.extractor.hash)
        if before != evaluator.extractor.hash:
            raise UserError(
                f"the extractor of {dataset.path} is not the one that sweep {sweep.name} began with "
                f"({evaluator.extractor.hash[:12]}, {before[:12]}): its results could not be compared"
            )
        sweep.recognitions[group] = evaluator.extractor.recognition
        of_group = f"{group}: " if group else ""
        runner.announce(of_group + evaluator.extractor.recognition.line())
        references = sweep.references.setdefault(group, {"chance": 1 / evaluator.spec.num_classes})
        if settings.resources.device == "cpu":
            split_features(evaluator.view, "train", evaluator.extractor)
            if "untrained" not in references:
                references |= ends_of_curves(settings, evaluator, sweep.metric)
    return evaluator


def ends_of_curves(settings: Settings, evaluator: Evaluator, metric: str) -> dict[str, float]:
    """Measure what a sweep's curves lie between: an untrained generator, and real motions beside real ones."""
    gan, training = GAN(settings, evaluator.spec), settings.training
    if settings.model.standardised:
        batches = evaluator.view.batches(
            batch_size=training.batch_size, seed=settings.seed, balanced=training.balanced_classes
        )
        standardise(gan.networks.values(), batches)
    settle(gan, evaluator.view)
    ends = {"untrained": evaluator.evaluate(gan, [metric])[metric]}
    with suppress(UserError):  # nothing is held out, or too little of it
        floor = evaluator.floor([metric])
        if metric in floor:  # not a metric that has a floor of its own beside it
            ends["real"] = floor[metric]
    return ends


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
