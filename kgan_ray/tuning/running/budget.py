"""What a sweep may spend: wall time and device hours, counted over all of its sessions."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from kgan_ray.tuning.question.sections import Budget
from kgan_ray.tuning.state import EXPLORE, Sweep

_LEAST_EXPLORED = 0.5  # of the budget, however long the confirmation will take


class BudgetMeter:
    """What is spent of a sweep's budget, and whether a stage must end. `tick` keeps the sweep's own count up to date."""

    def __init__(
        self,
        budget: Budget,
        sweep: Sweep,
        *,
        devices: float,
        to_confirm: int,
        at_once: int,
        started: float | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the clock of this session.

        Args:
            devices: that one trial holds.
            to_confirm: the sweep's confirmation runs, at most.
            at_once: trials that run at the same time.
            started: when the session began, by the clock; None = now.
        """
        self.budget, self.sweep = budget, sweep
        self._devices, self._to_confirm, self._at_once, self._now = devices, to_confirm, at_once, now
        self._ticked = now()
        self._started = self._ticked if started is None else started
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
        """Return whether the stage must end. The explore stage leaves what the confirmation will need, as far as known."""
        wall, device = self._limits
        if stage == EXPLORE and min(wall, device) < math.inf:
            run = self._seconds_per_run()
            wall = max(_LEAST_EXPLORED * wall, wall - run * math.ceil(self._to_confirm / self._at_once))
            device = max(_LEAST_EXPLORED * device, device - run * self._to_confirm * self._devices)
        return self._spent >= wall or self.sweep.device_seconds >= device

    def has_room_for(self, runs: int) -> bool:
        """Return whether so many further whole runs will end within the budget, as far as is known."""
        (wall, device), run = self._limits, self._seconds_per_run()
        return (
            self._spent + run * math.ceil(runs / self._at_once) <= wall
            and self.sweep.device_seconds + run * runs * self._devices <= device
        )

    @property
    def _limits(self) -> tuple[float, float]:
        """Seconds of wall time, and of devices that are held."""
        budget = self.budget
        wall = 60 * (budget.minutes or 0) + 3600 * (budget.hours or 0) or math.inf
        return wall, 3600 * budget.device_hours if budget.device_hours else math.inf

    @property
    def _spent(self) -> float:
        return self._earlier + self._now() - self._started

    def _seconds_per_run(self) -> float:
        """Estimate the seconds of one full-length run: as whole ones took, or from shorter ones; 0.0 until one has reported."""
        whole = self.sweep.settings.training.steps
        trials = [trial for trial in self.sweep.trials if trial.step and trial.seconds]
        trials = [trial for trial in trials if trial.step == whole] or trials
        steps = sum(trial.step for trial in trials)
        return whole * sum(trial.seconds for trial in trials) / steps if steps else 0.0
