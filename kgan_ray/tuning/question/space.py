"""A search-space file: one question, read strictly. Every mistake names the file, the key and what is accepted."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from kgan_ray.metrics.names import check_objective
from kgan_ray.settings import (
    Overrides,
    Settings,
    SettingValue,
    UserError,
    check_setting_name,
    override,
    resolve_settings,
    validated,
)
from kgan_ray.text import close_match
from kgan_ray.tuning.question.checks import (
    check_algorithm,
    check_confirm,
    check_may_vary,
    check_preset,
    check_published,
    checked_overrides,
    compared,
    population_search,
)
from kgan_ray.tuning.question.domains import Domain, parse_domain
from kgan_ray.tuning.question.sections import Budget, Confirm, Objective, Scheduler, Search
from kgan_ray.validation import FrozenModel

BASELINE = "baseline"


class _File(FrozenModel):
    """The shape of the file; `space`, `configurations` and `groups` are read further by hand."""

    question: str | None = None  # in words; None = the comment in the file's first line
    preset: str | None = None
    settings: dict[str, SettingValue] = Field(default_factory=dict)
    objective: Objective = Objective()
    search: Search = Search()
    scheduler: Scheduler = Scheduler()
    confirm: Confirm = Confirm()
    budget: Budget = Budget()
    space: dict[str, SettingValue] = Field(default_factory=dict)
    configurations: dict[str, SettingValue] = Field(default_factory=dict)
    groups: dict[str, SettingValue] = Field(default_factory=dict)
    published: dict[str, dict[str, dict[str, float | str]]] = Field(default_factory=dict)


class Space(FrozenModel):
    """A read and checked search-space file.

    It has either a `space` to explore, or `configurations` to compare as they are. `groups` are conditions under
    which everything is repeated and judged on its own, for instance one benchmark each.
    """

    name: str
    tree: dict[str, SettingValue]  # the file's content, kept with the sweep
    preset: str | None
    settings: dict[str, SettingValue]
    objectives: tuple[Objective, ...]  # the first one ranks and is judged; further ones make a Pareto front
    search: Search
    scheduler: Scheduler
    confirm: Confirm
    budget: Budget
    domains: tuple[Domain, ...]
    configurations: dict[str, dict[str, SettingValue]]
    groups: dict[str, dict[str, SettingValue]]
    published: dict[
        str, dict[str, dict[str, float | str]]
    ]  # group -> configuration -> metric: beside that metric's

    @property
    def objective(self) -> Objective:
        return self.objectives[0]

    @property
    def mode(self) -> Literal["min", "max"]:
        return self.objective.direction

    @property
    def compare(self) -> Literal["difference", "ratio"]:
        """What the verdicts are about."""
        return compared(self.confirm, self.objective)

    @property
    def num_comparisons(self) -> int:
        """How many configurations are compared with a baseline, over all groups."""
        others = len(self.configurations) - 1 if self.configurations else self.confirm.top * self.confirm.baseline
        return others * max(1, len(self.groups))

    @property
    def modes(self) -> dict[str, Literal["min", "max"]]:
        """Every objective's metric and direction, the first one's first."""
        return {objective.metric: objective.direction for objective in self.objectives}

    @property
    def explores(self) -> bool:
        return bool(self.domains)

    @property
    def num_compared(self) -> int:
        """How many configurations are confirmed with every fresh seed, under all conditions together."""
        configurations = len(self.configurations) or self.confirm.top + self.confirm.baseline
        return configurations * max(1, len(self.groups))

    @property
    def searched(self) -> tuple[str, ...]:
        """The settings in which the sweep's configurations differ."""
        named = [domain.name for domain in self.domains]
        named += [name for overrides in self.configurations.values() for name in overrides]
        return tuple(dict.fromkeys(named))


def load_space(path: Path | str) -> Space:
    """Read a search-space file; a bare name is that of a file in search_spaces/. Raises UserError at the first mistake."""
    path = Path(path)
    if path.name == str(path) and not path.suffix and not path.exists():
        path = Path("search_spaces") / f"{path}.yaml"
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
    first = text.partition("\n")[0]
    comment = {"question": first.lstrip("# ")} if first.startswith("#") else {}
    return parse_space({**comment, **tree}, name=path.stem, where=str(path))


def parse_space(tree: Mapping[str, object], *, name: str, where: str) -> Space:
    """Return the space that a parsed file describes; `where` names the file in messages. Raises UserError."""
    objectives = _objectives(tree.get("objective"), where)
    file = validated(_File, {**tree, "objective": {}}, where=where)
    check_preset(file.preset, where)
    check_confirm(file.confirm, objectives[0], where)
    if bool(file.space) == bool(file.configurations):
        raise UserError(
            f"{where}: expected one of space and configurations, found {'both' if file.space else 'neither'}"
        )
    check_published(file.published, where)
    settings = checked_overrides(file.settings, f"{where}: settings", fixed=True)
    base = resolve_settings(file.preset, settings, where=f"{where}: settings")
    groups = _named_overrides(file.groups, base, f"{where}: groups", fixed=True)
    domains = _domains(file, base, where)
    configurations = _named_overrides(file.configurations, base, f"{where}: configurations")
    if groups and not configurations:
        raise UserError(f"{where}: groups: they go with configurations, not with a space to explore")
    if configurations and BASELINE not in configurations:
        raise UserError(f"{where}: configurations has no {BASELINE!r}, against which the others are judged")
    search = _search(file, domains, base, where)
    if file.scheduler.type == "pbt":
        search = population_search(search, domains, where)
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


def base_settings(space: Space, preset: str | None, overrides: Overrides) -> Settings:
    """Return what every trial starts from: the preset, the file's `settings`, then --set; the objectives first.

    A population gets rates that do not fall by themselves. Raises UserError where a searched value does not go with these, or two
    searched values with each other.
    """
    settings = resolve_settings(preset or space.preset, {**space.settings, **overrides})
    for group, changes in space.groups.items():
        override(settings, changes, where=f"{space.name}: groups.{group}")
    for domain in space.domains:
        for value in domain.ends():
            override(settings, {domain.name: value}, where=f"{space.name}: space.{domain.name}")
    for one, other in itertools.combinations(space.domains, 2):
        for value, beside in itertools.product(one.ends(), other.ends()):
            if value in other.when.get(one.name, [value]):
                where = f"{space.name}: space.{one.name} with space.{other.name}"
                override(settings, {one.name: value, other.name: beside}, where=where)
    if space.scheduler.type == "pbt":  # it makes a schedule of its own, instead of that of a preset
        given = {**space.settings, **overrides}.get("training.learning_rate_decay", 1.0)
        if given != 1:
            raise UserError(
                f"{space.name}: training.learning_rate_decay is {given}, but pbt makes a schedule of its own"
            )
        settings = override(settings, {"training.learning_rate_decay": 1.0})
    metrics = tuple(dict.fromkeys([*space.modes, *settings.evaluation.metrics]))
    if settings.evaluation.mode not in (None, space.mode):
        raise UserError(
            f"{space.name}: evaluation.mode is {settings.evaluation.mode}, and the sweep's objective goes to its "
            f"{space.mode}; say objective.mode instead"
        )
    mode = space.objective.mode or settings.evaluation.mode
    return override(settings, {"evaluation.metrics": metrics, "evaluation.mode": mode})


def _objectives(tree: object, where: str) -> tuple[Objective, ...]:
    """Return the objectives of `fid`, `{metric: fid}` or a list of such."""
    trees = tree if isinstance(tree, (list, tuple)) else [{} if tree is None else tree]
    sections = [one if isinstance(one, Mapping) else {"metric": one} for one in trees] or [{}]
    objectives = tuple(validated(_File, {"objective": one}, where=where).objective for one in sections)
    for objective in objectives:
        check_objective(objective.metric, f"{where}: objective.metric")
    return objectives


def _named_overrides(
    trees: Mapping[str, object], base: Settings, where: str, *, fixed: bool = False
) -> dict[str, dict[str, SettingValue]]:
    """Return the overrides of each group or configuration, every one of which `base` accepts."""
    named = {str(name): checked_overrides(tree, f"{where}.{name}", fixed=fixed) for name, tree in trees.items()}
    for name, overrides in named.items():
        override(base, overrides, where=f"{where}.{name}")
    return named


def _domains(file: _File, base: Settings, where: str) -> tuple[Domain, ...]:
    domains: list[Domain] = []
    for name, tree in file.space.items():
        place = f"{where}: space.{name}"
        check_setting_name(name, f"{where}: space")
        check_may_vary(name, place)
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
        point = checked_overrides(tree, place)
        searched = [domain.name for domain in domains]
        for name in point:
            if name not in searched:
                raise UserError(f"{place}: {name!r} is not in space.{close_match(name, searched)}")
        override(base, point, where=place)
        start_with.append(point)
    return file.search.model_copy(update={"start_with": tuple(start_with)})


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
