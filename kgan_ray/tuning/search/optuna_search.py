"""Configurations proposed by an Optuna sampler that learns from the trials, those of earlier sessions included."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import optuna
from ray.tune.search.optuna import OptunaSearch

from kgan_ray.settings import SettingValue
from kgan_ray.tuning.question.domains import Domain
from kgan_ray.tuning.question.sections import Search
from kgan_ray.tuning.question.space import Space
from kgan_ray.tuning.search.proposals import WORST, objective_keys
from kgan_ray.tuning.state import Trial


class SearchSpace:
    """A define-by-run space for OptunaSearch, which pickles it: hence a class at module level."""

    def __init__(self, domains: Sequence[Domain]) -> None:
        self.domains = tuple(domains)

    def __call__(self, trial: optuna.Trial) -> None:
        chosen: dict[str, SettingValue] = {}
        for domain in self.domains:
            if domain.applies(chosen):
                chosen[domain.name] = domain.suggest(trial)


class ResumableOptunaSearch(OptunaSearch):
    """OptunaSearch that begins with the trials of earlier sessions, and never sees the sentinel of a diverged one.

    Beside `WORST` (1e30) a Gaussian process, a hypervolume or a crowding distance would be blind. The study is told the
    worst finite objective so far instead, or, before there is one, that the trial failed.

    Trials of `earlier` that have ended fill the study. Those that have not are proposed again, first and in their
    order; then `space.search.start_with` as far as it was not tried; then what the sampler thinks of.
    """

    def __init__(self, space: Space, earlier: Sequence[Trial] = ()) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        keys, modes = objective_keys(list(space.modes)), list(space.modes.values())
        is_single = len(keys) == 1
        super().__init__(
            space=SearchSpace(space.domains),
            metric=keys[0] if is_single else keys,
            mode=modes[0] if is_single else modes,
            # Another seed than the earlier session's, which would propose its random configurations once more.
            sampler=sampler(space.search, seed=space.search.seed + len(earlier)),
        )
        self._keys, self._modes, self._metrics = keys, modes, list(space.modes)
        self._finite: list[list[float]] = []  # objectives of the trials so far that did not diverge
        for trial in earlier:
            if trial.has_ended:
                self._replay(trial)
        unfinished = [trial.overrides for trial in earlier if not trial.has_ended]
        for point in [*unfinished, *space.search.start_with[len(earlier) :]]:
            self._ot_study.enqueue_trial(dict(point))

    def on_trial_result(self, trial_id: str, result: Mapping[str, float]) -> None:
        """Tell Optuna nothing: it learns how trials end."""

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, float] | None = None, error: bool = False
    ) -> None:
        values = [float(result[key]) for key in self._keys] if result and self._keys[0] in result else None
        learnable = self._learnable(values)
        known = dict(zip(self._keys, learnable, strict=True)) if learnable else None
        super().on_trial_complete(trial_id, known, error or learnable is None)

    def _replay(self, trial: Trial) -> None:
        """Add an ended trial to the study, as if it had been proposed and had reported."""
        values = [trial.value(metric) for metric in self._metrics]
        measured = [value for value in values if value is not None]
        if trial.status == "diverged":
            measured = [WORST] * len(values)
        learnable = self._learnable(measured if len(measured) == len(values) else None)
        self._ot_study.enqueue_trial(dict(trial.overrides))
        proposal = self._ot_study.ask()
        self._space(proposal)
        state = optuna.trial.TrialState.COMPLETE if learnable else optuna.trial.TrialState.FAIL
        self._ot_study.tell(proposal, learnable, state=state)

    def _learnable(self, values: list[float] | None) -> list[float] | None:
        """Return what the study is told of a trial with these objectives; None: that it failed."""
        if values is None:
            return None
        if max(abs(value) for value in values) < WORST:
            self._finite.append(values)
            return values
        if not self._finite:
            return None
        worst = {"min": max, "max": min}
        return [
            worst[mode](column) for mode, column in zip(self._modes, zip(*self._finite, strict=True), strict=True)
        ]


def sampler(search: Search, seed: int) -> optuna.samplers.BaseSampler:
    """Return multivariate TPE (Bergstra et al., 2011; Falkner et al., 2018), a Gaussian process, CMA-ES or NSGA-II."""
    startup = search.startup_trials or max(4, min(10, search.num_trials // 3))
    if search.algorithm == "gp":
        return optuna.samplers.GPSampler(seed=seed, n_startup_trials=startup)
    if search.algorithm == "cmaes":
        return optuna.samplers.CmaEsSampler(
            seed=seed, n_startup_trials=search.startup_trials or 1, warn_independent_sampling=False
        )
    if search.algorithm == "nsga2":  # five generations, where Optuna's own 50 would never learn in a short search
        return optuna.samplers.NSGAIISampler(seed=seed, population_size=max(4, min(50, search.num_trials // 5)))
    return optuna.samplers.TPESampler(
        seed=seed,
        n_startup_trials=startup,
        multivariate=True,
        group=True,  # conditional settings are modelled apart
        constant_liar=True,  # trials that run at once count as bad for now, so that they differ
    )
