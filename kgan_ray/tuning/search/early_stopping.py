"""Which explored trials end early: ASHA, which takes up the trials of earlier sessions and sweeps, and judges again."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from kgan_ray.settings import Settings
from kgan_ray.tuning.question.sections import Scheduler
from kgan_ray.tuning.search.proposals import OBJECTIVE, WORST
from kgan_ray.tuning.state import Trial


@dataclass(frozen=True)
class _EndedTrial:
    """As much of one of Tune's trials as ASHA looks at."""

    trial_id: str

    def __str__(self) -> str:
        return self.trial_id


class ResumableASHA(ASHAScheduler):
    """ASHA whose rungs begin with what trials reported in earlier sessions, and which judges a trial again.

    An ended trial's curve fills them at once, that of another one as soon as Tune starts it again, under its new id.
    The first trials at a rung have nothing to be measured by, and go on however bad they are. So at each later evaluation
    a trial is set beside what others have reported at its rung meanwhile.
    """

    def __init__(
        self, earlier: Sequence[Trial], mode: str, seed: int, past: Sequence[Trial] = (), **options: Any
    ) -> None:
        """`earlier` are this sweep's trials of earlier sessions, `past` those of other sweeps of the same question."""
        super().__init__(time_attr="step", metric=OBJECTIVE, mode=mode, **options)
        self._seed = seed
        self._curves = {trial.name: list(trial.curve) for trial in earlier}
        for trial in earlier:
            if trial.status == "diverged":
                self._curves[trial.name].append((trial.step, WORST if mode == "min" else -WORST))
            if trial.has_ended:
                self.on_trial_add(None, _EndedTrial(trial.name))
        for number, trial in enumerate(past):
            name = f"past {number}"
            self._curves[name] = list(trial.curve)
            self.on_trial_add(None, _EndedTrial(name))

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Put the trial into a bracket, the same one in every session, with what it reported in earlier ones."""
        np.random.seed(
            zlib.crc32(f"{self._seed} {trial}".encode())
        )  # ASHA draws the bracket from NumPy's own generator
        super().on_trial_add(tune_controller, trial)
        for step, value in self._curves.pop(str(trial), ()):
            self.on_trial_result(tune_controller, trial, {"step": step, OBJECTIVE: value})

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Let ASHA judge at a rung; between two of them, by what was reported at the last since."""
        bracket = self._trial_info[trial.trial_id]
        before = self._last_rung(bracket, trial)
        action: str = super().on_trial_result(tune_controller, trial, result)
        recorded = self._last_rung(bracket, trial)
        is_last = result["step"] >= self._max_t - 1
        if action == TrialScheduler.CONTINUE and recorded and recorded is before and not is_last:
            others = {name: value for name, value in recorded.items() if name != trial.trial_id}
            cutoff = bracket.cutoff(others)
            if cutoff is not None and recorded[trial.trial_id] < cutoff:
                return TrialScheduler.STOP
        return action

    @staticmethod
    def _last_rung(bracket: Any, trial: Any) -> dict[str, float] | None:
        """Return what was recorded at the highest rung that the trial has reached; ASHA keeps the highest first."""
        return next((recorded for _, recorded in bracket._rungs if trial.trial_id in recorded), None)


def early_stopping(
    scheduler: Scheduler,
    settings: Settings,
    mode: str,
    seed: int = 0,
    earlier: Sequence[Trial] = (),
    past: Sequence[Trial] = (),
) -> TrialScheduler | None:
    """Return Ray's scheduler; None runs every trial to its end. Rungs are counted in training steps."""
    if scheduler.type in ("none", "pbt"):
        return None
    grace = scheduler.grace_evaluations * settings.evaluation.every_steps
    return ResumableASHA(
        earlier,
        mode,
        seed,
        past,
        grace_period=grace,
        reduction_factor=scheduler.reduction_factor,
        max_t=max(settings.training.steps, grace) + 1,  # + 1: the last report ends nothing
        brackets=len(bracket_shares(scheduler, settings)),
    )


def bracket_shares(scheduler: Scheduler, settings: Settings) -> list[float]:
    """Return the part of the trials that each bracket gets; bracket k judges for the first time at the k-th rung."""
    if scheduler.type != "hyperband":
        return [1.0]
    rungs, step = 1, scheduler.grace_evaluations * settings.evaluation.every_steps
    while (step := step * scheduler.reduction_factor) < settings.training.steps:
        rungs += 1
    weights = [math.exp(rungs - k) for k in range(rungs)]  # as Ray weighs them
    return [weight / sum(weights) for weight in weights]
