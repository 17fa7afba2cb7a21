"""Ray's OptunaSearch, spared the numbers that no model can learn from."""

from __future__ import annotations

from typing import Any

from ray.tune.search.optuna import OptunaSearch

IS_LOST = 1e29  # beyond this an objective says that the trial diverged (see `trial.WORST`)


class Learner(OptunaSearch):
    """A trial that diverged counts as bad as the worst that did not: a Gaussian process, a hypervolume or a crowding
    distance would see nothing else beside 1e30. Before any has ended well it counts as failed."""

    _seen: list[list[float]] | None = None

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing: Optuna is told how trials end."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        keys = self.metric if isinstance(self.metric, list) else [self.metric]
        modes = self.mode if isinstance(self.mode, list) else [self.mode]
        if result and all(key in result for key in keys):
            found = [float(result[key]) for key in keys]
            if max(abs(value) for value in found) < IS_LOST:
                self._seen = [*(self._seen or []), found]
            elif self._seen:
                worst = [
                    (max if mode == "min" else min)(values)
                    for mode, values in zip(modes, zip(*self._seen, strict=True), strict=True)
                ]
                result = {**result, **dict(zip(keys, worst, strict=True))}
            else:
                result, error = None, True
        super().on_trial_complete(trial_id, result, error)
