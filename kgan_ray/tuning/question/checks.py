"""What a question may not ask: settings that cannot vary, algorithms that do not fit. Each mistake is one UserError."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from kgan_ray.metrics.names import METRICS, check_metric_name
from kgan_ray.presets import PRESETS
from kgan_ray.settings import SettingValue, UserError, check_setting_name
from kgan_ray.text import close_match
from kgan_ray.tuning.question.domains import Domain, plain
from kgan_ray.tuning.question.sections import Confirm, Objective, Scheduler, Search

# Settings that a sweep's trials must share: they decide what is measured, or what a trial may use.
_FIXED = ("data.", "resources.", "tracking.", "seed", "evaluation.", "training.recalibrate_batch_norm")
_FIXED_IN_A_SCHEDULE = (
    "training.steps",
    "training.learning_rate_decay",
    "training.ema_decay",
    "training.precision",
    "training.cuda_graph",
)
_LEAST_POPULATION = 4
PUBLISHED_NOTE = "note"  # beside the metrics of a published configuration: what its figures are to be read with


def checked_overrides(tree: object, where: str, *, fixed: bool = False) -> dict[str, SettingValue]:
    """Return {SETTING: VALUE, ...} with plain values; with `fixed`, settings that all trials share are accepted too."""
    if not isinstance(tree, Mapping):
        raise UserError(f"{where}: expected {{SETTING: VALUE, ...}}, found {tree!r}")
    for name in tree:
        check_setting_name(str(name), where)
        if not fixed:
            check_may_vary(str(name), f"{where}.{name}")
    return {str(name): plain(value) for name, value in tree.items()}


def check_may_vary(name: str, where: str) -> None:
    """Raise UserError for a setting without which trials could not be compared."""
    if name.startswith(_FIXED):
        raise UserError(
            f"{where}: trials with different values could not be compared; "
            f"put it under settings or groups, or give it with --set"
        )


def check_preset(preset: str | None, where: str) -> None:
    """Raise UserError, with the nearest name, for a preset that is none."""
    if preset is not None and preset not in PRESETS:
        close = close_match(preset, PRESETS)
        raise UserError(f"{where}: preset: unknown preset {preset!r}.{close} Known: {', '.join(PRESETS)}")


def check_published(published: Mapping[str, Mapping[str, Mapping[str, float | str]]], where: str) -> None:
    """Raise UserError for a published figure that is filed under no metric, or is no number."""
    for group, configurations in published.items():
        for name, figures in configurations.items():
            for metric, figure in figures.items():
                place = f"{where}: published.{group}.{name}"
                if metric != PUBLISHED_NOTE:
                    check_metric_name(metric, place)
                    if isinstance(figure, str):
                        raise UserError(f"{place}.{metric}: expected a number, found {figure!r}")


def check_confirm(confirm: Confirm, objective: Objective, where: str) -> None:
    """Raise UserError for verdicts that cannot be given: of ratios that mean nothing, or for want of a baseline."""
    if confirm.compare == "ratio" and not METRICS[objective.metric].is_above_zero:
        above_zero = ", ".join(
            name for name, metric in METRICS.items() if metric.is_above_zero and metric.is_objective
        )
        raise UserError(
            f"{where}: confirm.compare: ratio is for {above_zero}; {objective.metric} may be 0 or below"
        )
    if confirm.seeds_at_most < confirm.seeds:
        raise UserError(f"{where}: confirm.most_seeds: found {confirm.most_seeds}, below seeds ({confirm.seeds})")
    if not confirm.baseline and (confirm.most_seeds or confirm.margin):
        raise UserError(
            f"{where}: confirm.baseline: most_seeds and margin are for verdicts, which need the baseline"
        )
    is_ratio = compared(confirm, objective) == "ratio"
    if is_ratio and confirm.margin is not None and confirm.margin <= 1:
        raise UserError(
            f"{where}: confirm.margin: found {confirm.margin:g}; a ratio's is a factor above 1, such as 1.25"
        )


def compared(confirm: Confirm, objective: Objective) -> Literal["difference", "ratio"]:
    """Return what the verdicts on this objective are about."""
    return confirm.compare or ("ratio" if METRICS[objective.metric].is_above_zero else "difference")


def population_search(search: Search, domains: Sequence[Domain], where: str) -> Search:
    """Return the search of population based training, whose first members are drawn at random. Raises UserError."""
    if search.algorithm != "random" and "algorithm" in search.model_fields_set:
        raise UserError(
            f"{where}: search.algorithm: pbt draws its population at random, found {search.algorithm}; leave it out"
        )
    if search.num_trials < _LEAST_POPULATION:
        raise UserError(
            f"{where}: search.num_trials: found {search.num_trials}; pbt needs {_LEAST_POPULATION} members or more"
        )
    for domain in domains:
        if not domain.name.startswith(("training.", "techniques.")) or domain.name in _FIXED_IN_A_SCHEDULE:
            raise UserError(
                f"{where}: space.{domain.name}: pbt changes settings in the middle of training, and a checkpoint "
                "would not fit another value of this one; it takes training.* and techniques.*, "
                f"except {', '.join(_FIXED_IN_A_SCHEDULE)}"
            )
    if not domains:
        raise UserError(f"{where}: scheduler.type: pbt needs a space to explore")
    return search.model_copy(update={"algorithm": "random"})


def check_algorithm(
    search: Search,
    scheduler: Scheduler,
    objectives: Sequence[Objective],
    domains: Sequence[Domain],
    where: str,
) -> None:
    """Raise UserError for a space or objectives that the algorithm or the scheduler cannot handle."""
    metrics = [objective.metric for objective in objectives]
    if len(set(metrics)) < len(metrics):
        raise UserError(f"{where}: objective: {', '.join(metrics)} names a metric twice")
    if any(objective.mean_of > 1 for objective in objectives) and (len(metrics) > 1 or scheduler.type == "pbt"):
        raise UserError(f"{where}: objective.mean_of: it goes with one objective, and not with scheduler.type pbt")
    if len(metrics) > 1 and scheduler.type != "none":
        raise UserError(
            f"{where}: scheduler.type: {scheduler.type} ranks trials by one number, and there are {len(metrics)} "
            "objectives; leave it out, or name one objective"
        )
    if (len(metrics) > 1 and search.algorithm == "cmaes") or (len(metrics) == 1 and search.algorithm == "nsga2"):
        wanted = "one objective" if search.algorithm == "cmaes" else "two or more objectives"
        raise UserError(
            f"{where}: search.algorithm: {search.algorithm} needs {wanted}, found {len(metrics)}; tpe takes any number"
        )
    if search.algorithm == "cmaes":
        for domain in domains:
            if domain.kind == "choice":
                raise UserError(f"{where}: space.{domain.name}: cmaes needs numbers, found choice; use tpe or gp")
        if len(domains) == 1:
            raise UserError(
                f"{where}: search.algorithm: cmaes needs two settings or more, found one; use tpe or gp"
            )
    if search.algorithm in ("cmaes", "gp"):
        for domain in domains:
            if domain.when:
                raise UserError(
                    f"{where}: space.{domain.name}.when: {search.algorithm} needs every setting in every trial; "
                    "use tpe, nsga2, random or grid"
                )
