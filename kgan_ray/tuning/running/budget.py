"""What a sweep may spend: wall time and device hours, counted over all of its sessions."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from kgan_ray.cli import parse_overrides
from kgan_ray.settings import UserError, validated
from kgan_ray.tuning.question.sections import Budget
from kgan_ray.tuning.state import EXPLORE, Sweep

_LEAST_EXPLORED = 0.5  # of the budget, however long the confirmation will take


def parse_budget(items: list[str], known: Budget) -> Budget:
    """`["hours=3"]` from the command line over the file's budget. Raises UserError."""
    found = {}
    for item in items:
        name, equals, _ = item.partition("=")
        if not equals:
            raise UserError(f"--budget {item}: expected NAME=VALUE, for example hours=3")
        found[name.strip()] = next(iter(parse_overrides([item]).values()))
    changed = validated(Budget, found, where="--budget")
    return known.model_copy(update={name: getattr(changed, name) for name in found})


def described(budget: Budget) -> str:
    """`2 hours, 8 device hours`; empty where there is no limit."""
    parts = [
        f"{value:g} {name.replace('_', ' ')}" for name, value in budget.model_dump().items() if value is not None
    ]
    return ", ".join(parts)


class Purse:
    """What is spent and what is left. `tick` keeps the sweep's own count up to date."""

    def __init__(
        self,
        budget: Budget,
        sweep: Sweep,
        *,
        devices: float,
        to_confirm: int,
        at_once: int,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.budget, self.sweep = budget, sweep
        self._devices, self._to_confirm, self._at_once, self._now = devices, to_confirm, at_once, now
        self._started = self._ticked = now()
        self._earlier = sweep.seconds
        sweep.session_seconds = 0.0

    def tick(self) -> None:
        """Count the devices that running trials have held since the last call."""
        now = self._now()
        running = sum(trial.status == "running" for trial in self.sweep.trials)
        self.sweep.device_seconds += (now - self._ticked) * running * self._devices
        self.sweep.session_seconds = now - self._started
        self._ticked = now

    def is_spent(self, stage: str) -> bool:
        """Whether the stage must end. The explore stage leaves what the confirmation will need, as far as known."""
        budget = self.budget
        wall = 60 * (budget.minutes or 0) + 3600 * (budget.hours or 0) or math.inf
        device = 3600 * budget.device_hours if budget.device_hours else math.inf
        if stage == EXPLORE and min(wall, device) < math.inf:
            run = self._seconds_per_run()
            wall = max(_LEAST_EXPLORED * wall, wall - run * math.ceil(self._to_confirm / self._at_once))
            device = max(_LEAST_EXPLORED * device, device - run * self._to_confirm * self._devices)
        spent = self._earlier + self._now() - self._started
        return spent >= wall or self.sweep.device_seconds >= device

    def _seconds_per_run(self) -> float:
        """Of a whole run, from the trials so far; 0 before the first has reported."""
        measured = [(trial.seconds, trial.step) for trial in self.sweep.trials if trial.step and trial.seconds]
        steps = sum(step for _, step in measured)
        whole = int(self.sweep.settings["training.steps"])
        return whole * sum(seconds for seconds, _ in measured) / steps if steps else 0.0
