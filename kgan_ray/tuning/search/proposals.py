"""Which configurations the explore stage tries where that is known beforehand: a grid, or draws at random."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from random import Random

from kgan_ray.settings import Overrides, Settings, SettingValue, override
from kgan_ray.tuning.question.domains import Domain
from kgan_ray.tuning.question.space import Space

OBJECTIVE = "objective"  # the key under which trials report what the search improves
WORST = 1e30  # what a run that diverged reports as its objective: finite, so that a searcher learns from it


def grid(domains: Sequence[Domain]) -> list[dict[str, SettingValue]]:
    """Return every combination, the last domain varying fastest; settings whose `when` does not hold are left out."""
    points: list[dict[str, SettingValue]] = []
    for values in itertools.product(*(domain.listed() for domain in domains)):
        point: dict[str, SettingValue] = {}
        for domain, value in zip(domains, values, strict=True):
            if domain.applies(point):
                point[domain.name] = value
        if point not in points:
            points.append(point)
    return points


def draw(domains: Sequence[Domain], count: int, seed: int) -> list[dict[str, SettingValue]]:
    """Draw `count` configurations at random. The same seed gives the same ones."""
    random = Random(seed)
    points = []
    for _ in range(count):
        point: dict[str, SettingValue] = {}
        for domain in domains:
            value = domain.draw(random)  # drawn always, so that a condition shifts no other draw
            if domain.applies(point):
                point[domain.name] = value
        points.append(point)
    return points


def listed_configurations(space: Space) -> list[dict[str, SettingValue]] | None:
    """Return the explore stage's configurations if they do not depend on results, else None."""
    first = [dict(point) for point in space.search.start_with]
    if space.search.algorithm == "grid":
        return first + [point for point in grid(space.domains) if point not in first]
    if space.search.algorithm == "random":
        return (first + draw(space.domains, space.search.num_trials, space.search.seed))[: space.search.num_trials]
    return None


def num_explored(space: Space) -> int:
    """Return how many trials the explore stage has."""
    if not space.explores:
        return 0
    listed = listed_configurations(space)
    return space.search.num_trials if listed is None else len(listed)


def objective_keys(metrics: Sequence[str]) -> list[str]:
    """Return the keys under which a trial reports its objectives, in their order."""
    return [OBJECTIVE, *(f"{OBJECTIVE}:{metric}" for metric in metrics[1:])]


def same_configuration(one: Overrides, other: Overrides, settings: Settings) -> bool:
    """Return whether two sets of overrides come to the same settings."""
    return override(settings, one) == override(settings, other)
