"""The sections of a search-space file that say how to search: objective, search, scheduler, confirm, budget."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from kgan_ray.metrics.names import METRICS
from kgan_ray.validation import FrozenModel


class Objective(FrozenModel):
    """What the search improves. `mode` follows from the metric unless given."""

    metric: str = "fid"
    mode: Literal["min", "max"] | None = None
    # A run's score is the mean of its last so many evaluations: the geometric one where ratios are compared.
    mean_of: PositiveInt = 1

    @property
    def direction(self) -> Literal["min", "max"]:
        return self.mode or METRICS[self.metric].mode


class Search(FrozenModel):
    """How the explore stage proposes configurations."""

    algorithm: Literal["tpe", "gp", "cmaes", "nsga2", "random", "grid"] = "tpe"
    num_trials: PositiveInt = 12  # a grid has as many as it has points
    seed: NonNegativeInt = 0
    startup_trials: PositiveInt | None = None  # random ones before it learns; None = a third, 4 to 10
    start_with: tuple[dict[str, Any], ...] = ()  # configurations to try first


class Scheduler(FrozenModel):
    """Which explored trials end early.

    asha keeps the best 1/reduction_factor at every rung. hyperband hedges over how early a trial may be judged: its
    trials are spread over as many ASHA brackets as there are rungs, each beginning one rung later.

    pbt trains `search.num_trials` members in rounds; after each one the worst copy the best and vary their settings.
    """

    type: Literal["asha", "hyperband", "pbt", "none"] = "none"
    grace_evaluations: PositiveInt = 1  # nothing ends before so many evaluations
    reduction_factor: int = Field(default=3, ge=2)
    interval_evaluations: PositiveInt = 1  # pbt: the length of a round
    quantile: float = Field(default=0.25, gt=0.0, le=0.5)  # pbt: the part of the population that copies


class Confirm(FrozenModel):
    """Fresh runs of the best configurations and of the baseline: the only ones that count as evidence.

    `compare` says of what the verdict is: of means, or of geometric means' ratio, for metrics above 0. None = of the ratio
    where the metric is above 0. Rounds of `seeds` fresh seeds go on for whoever is not decided, up to `most_seeds`.
    """

    top: NonNegativeInt = 2
    seeds: PositiveInt = 3
    most_seeds: PositiveInt | None = None  # None = one round
    # A factor or a difference below which nobody cares; None = none is called the same.
    margin: PositiveFloat | None = None
    baseline: bool = True
    compare: Literal["difference", "ratio"] | None = None

    @property
    def seeds_at_most(self) -> int:
        return self.most_seeds or self.seeds

    @property
    def planned_looks(self) -> int:
        """How often the verdicts are looked at, if nobody is decided before."""
        return math.ceil(self.seeds_at_most / self.seeds)


class Budget(FrozenModel):
    """What the whole sweep may spend, over all sessions; `search.num_trials` limits the trials. None = no limit.

    The explore stage ends early enough to leave time for the confirmation. What ends the confirmation can be resumed.
    """

    minutes: PositiveFloat | None = None  # wall time; minutes and hours add up
    hours: PositiveFloat | None = None
    device_hours: PositiveFloat | None = None  # GPUs that trials hold, or CPU cores where they hold none

    def __str__(self) -> str:
        """`2 hours, 8 device hours`; empty where there is no limit."""
        limits = [(name, value) for name, value in self.model_dump().items() if value is not None]
        return ", ".join(f"{value:g} {name.replace('_', ' ')}" for name, value in limits)
