"""Ray Tune's callbacks, passed on to the sweep that is running in this process.

Tune pickles its callbacks and unpickles them when a sweep is resumed, so this one holds nothing itself.
"""

from __future__ import annotations

from typing import Any, Protocol

from ray.tune import Callback, Stopper


class Observer(Protocol):
    """What a sweep wants to know of its trials; `trial` is Ray Tune's."""

    def name_trial(self, trial: Any) -> str: ...
    def before_step(self, trials: list[Any]) -> None: ...
    def after_step(self) -> None: ...
    def started(self, trial: Any) -> None: ...
    def reported(self, trial: Any, result: dict[str, Any]) -> None: ...
    def completed(self, trial: Any) -> None: ...
    def errored(self, trial: Any) -> None: ...
    def is_over(self) -> bool: ...


_observer: Observer | None = None


def observe(observer: Observer | None) -> None:
    """Send everything from now on to this observer."""
    global _observer
    _observer = observer


def name_trial(trial: Any) -> str:
    """The trial's name, which is its folder's name too."""
    return _observer.name_trial(trial) if _observer else str(trial.trial_id)


class Over(Stopper):
    """Ends all trials of a stage when the observer says so."""

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return _observer is not None and _observer.is_over()


class Relay(Callback):
    """Pass Tune's events on."""

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if _observer:
            _observer.before_step(trials)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if _observer:
            _observer.after_step()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if _observer:
            _observer.started(trial)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if _observer:
            _observer.reported(trial, result)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if _observer:
            _observer.completed(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if _observer:
            _observer.errored(trial)
