"""The explored trials as an Optuna study, which `optuna-dashboard` opens. Made anew from the record with every report."""

from __future__ import annotations

from pathlib import Path

import optuna
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from kgan_ray.settings import SettingValue
from kgan_ray.tuning.question.space import Space, parse_space
from kgan_ray.tuning.state import EXPLORE, FILE, Sweep, Trial


def write_study(sweep: Sweep, file: Path) -> bool:
    """Write a study of the explored trials that ended; return whether the sweep explores at all."""
    if not sweep.space.get("space"):
        return False
    space = parse_space(sweep.space, name=sweep.name, where=FILE)
    directions = ["minimize" if mode == "min" else "maximize" for mode in space.modes.values()]
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # In memory: a trial takes several steps, each of which would be a write to the file.
    draft = optuna.create_study(directions=directions)
    for trial in sweep.stage(EXPLORE):
        if trial.has_ended:
            _add(draft, trial, space)
    file.unlink(missing_ok=True)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(file)))
    study = optuna.create_study(storage=storage, study_name=sweep.name, directions=directions)
    study.add_trials(draft.get_trials(deepcopy=False))
    return True


def _add(study: optuna.Study, trial: Trial, space: Space) -> None:
    study.enqueue_trial(dict(trial.overrides), user_attrs={"trial": trial.name, "status": trial.status})
    proposal = study.ask()
    chosen: dict[str, SettingValue] = {}
    for domain in space.domains:
        if domain.applies(chosen):
            chosen[domain.name] = domain.suggest(proposal)
    values = [value for metric in space.modes if (value := trial.value(metric)) is not None]
    if len(space.modes) == 1:
        for step, value in trial.curve:
            proposal.report(value, step)
    if len(values) < len(space.modes):
        study.tell(proposal, state=TrialState.FAIL)
    elif trial.status == "stopped" and len(values) == 1:
        study.tell(proposal, state=TrialState.PRUNED)
    else:
        study.tell(proposal, values)
