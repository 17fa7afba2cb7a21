"""Where configurations come from: lists (grid, random), or an Optuna sampler that learns from the trials."""

from __future__ import annotations

import itertools
import math
import random
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kgan_ray.settings import Settings, override
from kgan_ray.tuning.question.domains import Domain
from kgan_ray.tuning.question.sections import Scheduler, Search
from kgan_ray.tuning.question.space import Space

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.samplers import BaseSampler
    from ray.tune.schedulers import TrialScheduler
    from ray.tune.search import Searcher

OBJECTIVE = "objective"  # the key under which trials report what the search improves


def grid(domains: Sequence[Domain]) -> list[dict[str, Any]]:
    """Every combination, the last domain varying fastest; settings whose `when` does not hold are left out."""
    points: list[dict[str, Any]] = []
    for values in itertools.product(*(domain.listed() for domain in domains)):
        point: dict[str, Any] = {}
        for domain, value in zip(domains, values, strict=True):
            if domain.applies(point):
                point[domain.name] = value
        if point not in points:
            points.append(point)
    return points


def draw(domains: Sequence[Domain], count: int, seed: int) -> list[dict[str, Any]]:
    """`count` configurations at random. The same seed gives the same ones."""
    source = random.Random(seed)
    points = []
    for _ in range(count):
        point: dict[str, Any] = {}
        for domain in domains:
            value = domain.draw(source)  # drawn always, so that a condition shifts no other draw
            if domain.applies(point):
                point[domain.name] = value
        points.append(point)
    return points


def listed_configurations(space: Space) -> list[dict[str, Any]] | None:
    """The explore stage's configurations if they do not depend on results, else None."""
    first = [dict(point) for point in space.search.start_with]
    if space.search.algorithm == "grid":
        return first + [point for point in grid(space.domains) if point not in first]
    if space.search.algorithm == "random":
        return (first + draw(space.domains, space.search.num_trials, space.search.seed))[: space.search.num_trials]
    return None


def num_explored(space: Space) -> int:
    """How many trials the explore stage has."""
    if not space.explores:
        return 0
    listed = listed_configurations(space)
    return space.search.num_trials if listed is None else len(listed)


class Suggest:
    """A define-by-run space for Ray's OptunaSearch, which pickles it: hence a class at module level."""

    def __init__(self, domains: Sequence[Domain]) -> None:
        self.domains = tuple(domains)

    def __call__(self, trial: Trial) -> None:
        chosen: dict[str, Any] = {}
        for domain in self.domains:
            if domain.applies(chosen):
                chosen[domain.name] = domain.suggest(trial)


def objective_keys(metrics: Sequence[str]) -> list[str]:
    """The keys under which a trial reports its objectives, in their order."""
    return [OBJECTIVE, *(f"{OBJECTIVE}:{metric}" for metric in metrics[1:])]


def searcher(space: Space) -> Searcher:
    """Ray's OptunaSearch over the space, seeded, with the known-good configurations enqueued."""
    import optuna

    from kgan_ray.tuning.search.optuna_search import Learner

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    keys, modes = objective_keys(list(space.modes)), list(space.modes.values())
    return Learner(
        space=Suggest(space.domains),
        metric=keys if len(keys) > 1 else OBJECTIVE,
        mode=modes if len(keys) > 1 else space.mode,
        sampler=sampler(space.search),
        points_to_evaluate=[dict(point) for point in space.search.start_with] or None,
    )


def sampler(search: Search) -> BaseSampler:
    """Multivariate TPE (Bergstra et al., 2011; Falkner et al., 2018), a Gaussian process, CMA-ES or NSGA-II."""
    import optuna

    startup = search.startup_trials or max(4, min(10, search.num_trials // 3))
    if search.algorithm == "gp":
        return optuna.samplers.GPSampler(seed=search.seed, n_startup_trials=startup)
    if search.algorithm == "cmaes":
        return optuna.samplers.CmaEsSampler(
            seed=search.seed, n_startup_trials=search.startup_trials or 1, warn_independent_sampling=False
        )
    if search.algorithm == "nsga2":  # five generations, where Optuna's own 50 would never learn in a short search
        return optuna.samplers.NSGAIISampler(
            seed=search.seed, population_size=max(4, min(50, search.num_trials // 5))
        )
    return optuna.samplers.TPESampler(
        seed=search.seed,
        n_startup_trials=startup,
        multivariate=True,
        group=True,  # conditional settings are modelled apart
        constant_liar=True,  # trials that run at once count as bad for now, so that they differ
    )


def early_stopping(scheduler: Scheduler, settings: Settings, mode: str, seed: int = 0) -> TrialScheduler | None:
    """Ray's scheduler; None runs every trial to its end. Rungs are counted in training steps."""
    if scheduler.type == "none":
        return None
    from ray.tune.schedulers import ASHAScheduler

    grace = scheduler.grace_evaluations * settings.evaluation.every_steps
    np.random.seed(seed)
    return ASHAScheduler(
        time_attr="step",
        metric=OBJECTIVE,
        mode=mode,
        grace_period=grace,
        reduction_factor=scheduler.reduction_factor,
        max_t=max(settings.training.steps, grace) + 1,  # + 1: the last report ends nothing
        brackets=len(bracket_shares(scheduler, settings)),
    )


def bracket_shares(scheduler: Scheduler, settings: Settings) -> list[float]:
    """The part of the trials that each bracket gets; bracket k judges for the first time at the k-th rung."""
    if scheduler.type != "hyperband":
        return [1.0]
    rungs, step = 1, scheduler.grace_evaluations * settings.evaluation.every_steps
    while (step := step * scheduler.reduction_factor) < settings.training.steps:
        rungs += 1
    weights = [math.exp(rungs - k) for k in range(rungs)]  # as Ray weighs them
    return [weight / sum(weights) for weight in weights]


def same_configuration(one: Mapping[str, Any], other: Mapping[str, Any], settings: Settings) -> bool:
    """Whether two sets of overrides come to the same settings."""
    return override(settings, one) == override(settings, other)
