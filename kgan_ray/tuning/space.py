"""A search-space file: one question, read strictly. Every mistake names the file, the key and what is accepted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from kgan_ray.metrics.names import ABOVE_ZERO, check_metric_name
from kgan_ray.settings import (
    PRESETS,
    FrozenModel,
    Settings,
    UserError,
    check_setting_name,
    close_match,
    override,
    resolve_settings,
    validated,
)
from kgan_ray.tuning.domains import Domain, parse_domain, plain
from kgan_ray.tuning.options import Budget, Confirm, Objective, Scheduler, Search

BASELINE = "baseline"

# Settings that a sweep's trials must share: they decide what is measured, or what a trial may use.
_FIXED = ("data.", "resources.", "tracking.", "seed", "evaluation.")
_FIXED_IN_A_SCHEDULE = ("training.steps", "training.ema_decay", "training.precision", "training.cuda_graph")
_LEAST_POPULATION = 4
_MAY_VARY = ("evaluation.truncation", "evaluation.batch_norm")


class _File(FrozenModel):
    """The shape of the file; `space`, `configurations` and `groups` are read further by hand."""

    preset: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    objective: Objective = Objective()
    search: Search = Search()
    scheduler: Scheduler = Scheduler()
    confirm: Confirm = Confirm()
    budget: Budget = Budget()
    space: dict[str, Any] = Field(default_factory=dict)
    configurations: dict[str, Any] = Field(default_factory=dict)
    groups: dict[str, Any] = Field(default_factory=dict)
    published: dict[str, dict[str, dict[str, float]]] = Field(default_factory=dict)


class Space(FrozenModel):
    """A read and checked search-space file.

    It has either a `space` to explore, or `configurations` to compare as they are. `groups` are conditions under
    which everything is repeated and judged on its own, for instance one benchmark each.
    """

    name: str
    tree: dict[str, Any]  # the file's content, kept with the sweep
    preset: str | None
    settings: dict[str, Any]
    objectives: tuple[Objective, ...]  # the first one ranks and is judged; further ones make a Pareto front
    search: Search
    scheduler: Scheduler
    confirm: Confirm
    budget: Budget
    domains: tuple[Domain, ...]
    configurations: dict[str, dict[str, Any]]
    groups: dict[str, dict[str, Any]]
    published: dict[str, dict[str, dict[str, float]]]  # group -> configuration -> metric: shown beside ours

    @property
    def objective(self) -> Objective:
        return self.objectives[0]

    @property
    def mode(self) -> Literal["min", "max"]:
        return self.objective.direction

    @property
    def modes(self) -> dict[str, Literal["min", "max"]]:
        """Every objective's metric and direction, the first one's first."""
        return {objective.metric: objective.direction for objective in self.objectives}

    @property
    def explores(self) -> bool:
        return bool(self.domains)


def load_space(path: Path | str) -> Space:
    """Read a search-space file. Raises UserError at the first mistake."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        others = [file.name for file in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise UserError(f"--space {path}: {error.strerror}.{close_match(path.name, others)}") from None
    except UnicodeDecodeError:
        raise UserError(f"--space {path}: not a text file (UTF-8)") from None
    try:
        tree = yaml.load(text, _StrictLoader)
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path}: expected keys such as preset, objective, space; found {type(tree).__name__}")
    return parse_space(tree, name=path.stem, where=str(path))


def parse_space(tree: Mapping[str, Any], *, name: str, where: str) -> Space:
    """The space that a parsed file describes; `where` names the file in messages."""
    listed = tree.get("objective", {})
    listed = [one if isinstance(one, Mapping) else {"metric": one} for one in _as_list(listed)] or [{}]
    file = validated(_File, {**tree, "objective": listed[0]}, where=where)
    objectives = (file.objective, *(validated(Objective, one, where=f"{where}: objective") for one in listed[1:]))
    _check_preset(file.preset, where)
    for objective in objectives:
        check_metric_name(objective.metric, f"{where}: objective.metric")
    if file.confirm.compare == "ratio" and file.objective.metric not in ABOVE_ZERO:
        raise UserError(
            f"{where}: confirm.compare: ratio is for {', '.join(ABOVE_ZERO)}; {file.objective.metric} may be 0 or below"
        )
    if bool(file.space) == bool(file.configurations):
        found = "both" if file.space else "neither"
        raise UserError(f"{where}: expected one of space and configurations, found {found}")
    settings = _overrides(file.settings, f"{where}: settings", fixed=True)
    base = _base(file.preset, settings, where)
    groups = {
        str(group): _overrides(tree, f"{where}: groups.{group}", fixed=True) for group, tree in file.groups.items()
    }
    for group, overrides in groups.items():
        override(base, overrides, where=f"{where}: groups.{group}")
    domains = _domains(file, base, where)
    configurations = {
        str(key): _overrides(tree, f"{where}: configurations.{key}") for key, tree in file.configurations.items()
    }
    for key, overrides in configurations.items():
        override(base, overrides, where=f"{where}: configurations.{key}")
    if groups and not configurations:
        raise UserError(f"{where}: groups: they go with configurations, not with a space to explore")
    if configurations and BASELINE not in configurations:
        raise UserError(f"{where}: configurations has no {BASELINE!r}, against which the others are judged")
    search = _search(file, domains, base, where)
    if file.scheduler.type == "pbt":
        search = _population(search, domains, where)
    check_algorithm(search, file.scheduler, objectives, domains, where)
    return Space(
        name=name,
        tree=dict(tree),
        settings=settings,
        domains=domains,
        configurations=configurations,
        groups=groups,
        objectives=objectives,
        search=search,
        **{key: getattr(file, key) for key in ("preset", "scheduler", "confirm", "budget", "published")},
    )


def base_settings(space: Space, preset: str | None, overrides: Mapping[str, Any]) -> Settings:
    """What every trial starts from: the preset, the file's `settings`, then --set; the objectives first."""
    settings = resolve_settings(preset or space.preset, {**space.settings, **overrides})
    for group, changes in space.groups.items():
        override(settings, changes, where=f"{space.name}: groups.{group}")
    for domain in space.domains:
        for value in domain.ends():
            override(settings, {domain.name: value}, where=f"{space.name}: space.{domain.name}")
    metrics = tuple(dict.fromkeys([*space.modes, *settings.evaluation.metrics]))
    return override(settings, {"evaluation.metrics": metrics})


def _domains(file: _File, base: Settings, where: str) -> tuple[Domain, ...]:
    domains: list[Domain] = []
    for name, tree in file.space.items():
        place = f"{where}: space.{name}"
        check_setting_name(name, f"{where}: space")
        _check_may_vary(name, place)
        domain = parse_domain(name, tree, place)
        for other in domain.when:
            if other not in [earlier.name for earlier in domains]:
                earlier = ", ".join(earlier.name for earlier in domains) or "none"
                raise UserError(f"{place}.when: {other!r} is not searched above it; searched above: {earlier}")
        for value in domain.ends():
            override(base, {name: value}, where=place)
        domains.append(domain)
    return tuple(domains)


def _search(file: _File, domains: tuple[Domain, ...], base: Settings, where: str) -> Search:
    if file.search.algorithm == "grid":
        for domain in domains:
            try:
                domain.listed()
            except ValueError:
                raise UserError(
                    f"{where}: space.{domain.name}: a grid needs choice, randint or quniform, found {domain.kind}"
                ) from None
    start_with = []
    for index, tree in enumerate(file.search.start_with):
        place = f"{where}: search.start_with.{index}"
        point = _overrides(tree, place)
        searched = [domain.name for domain in domains]
        for name in point:
            if name not in searched:
                raise UserError(f"{place}: {name!r} is not in space.{close_match(name, searched)}")
        override(base, point, where=place)
        start_with.append(point)
    return file.search.model_copy(update={"start_with": tuple(start_with)})


def _population(search: Search, domains: Sequence[Domain], where: str) -> Search:
    """The search of population based training: its first members are drawn at random."""
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


def _as_list(found: Any) -> list[Any]:
    return list(found) if isinstance(found, (list, tuple)) else [found]


def _overrides(tree: Any, where: str, *, fixed: bool = False) -> dict[str, Any]:
    if not isinstance(tree, Mapping):
        raise UserError(f"{where}: expected {{SETTING: VALUE, ...}}, found {tree!r}")
    for name in tree:
        check_setting_name(str(name), where)
        if not fixed:
            _check_may_vary(str(name), f"{where}.{name}")
    return {str(name): plain(value) for name, value in tree.items()}


def _check_may_vary(name: str, where: str) -> None:
    if name.startswith(_FIXED) and name not in _MAY_VARY:
        raise UserError(
            f"{where}: trials with different values could not be compared; "
            f"put it under settings or groups, or give it with --set"
        )


def _base(preset: str | None, settings: Mapping[str, Any], where: str) -> Settings:
    return resolve_settings(preset, settings, where=f"{where}: settings")


def _check_preset(preset: str | None, where: str) -> None:
    if preset is not None and preset not in PRESETS:
        close = close_match(preset, PRESETS)
        raise UserError(f"{where}: preset: unknown preset {preset!r}.{close} Known: {', '.join(PRESETS)}")


class _StrictLoader(yaml.SafeLoader):
    """YAML without keys that silently replace an earlier one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)
