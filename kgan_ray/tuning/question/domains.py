"""The values that a search may give one setting: `{choice: [avg, max]}`, `{loguniform: [1e-5, 1e-3]}`, ..."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from kgan_ray.settings import Overrides, SettingValue, UserError
from kgan_ray.text import close_match

if TYPE_CHECKING:
    from optuna import Trial

FORMS = {
    "choice": "choice: [VALUE, ...]",
    "uniform": "uniform: [LOW, HIGH]",
    "loguniform": "loguniform: [LOW, HIGH]",
    "quniform": "quniform: [LOW, HIGH, STEP]",
    "randint": "randint: [LOW, HIGH] (both included)",
    "lograndint": "lograndint: [LOW, HIGH] (both included)",
}


@dataclass(frozen=True)
class Domain:
    """One setting's values. `when` maps another setting to the values with which this one matters at all."""

    name: str
    kind: str
    values: tuple[SettingValue, ...]
    when: Mapping[str, tuple[SettingValue, ...]] = field(default_factory=dict)

    def applies(self, chosen: Overrides) -> bool:
        """Whether this setting is searched, given the values of the earlier ones."""
        return all(name in chosen and chosen[name] in accepted for name, accepted in self.when.items())

    def suggest(self, trial: Trial) -> SettingValue:
        """A value proposed by an Optuna trial."""
        if self.kind == "choice":
            return trial.suggest_categorical(self.name, self.values)
        low, high = self.values[:2]
        if self.kind in ("randint", "lograndint"):
            return trial.suggest_int(self.name, low, high, log=self.kind == "lograndint")
        if self.kind == "quniform":
            return trial.suggest_float(self.name, low, high, step=self.values[2])
        return trial.suggest_float(self.name, low, high, log=self.kind == "loguniform")

    def draw(self, random: Random) -> SettingValue:
        """A value drawn at random."""
        if self.kind == "choice":
            return random.choice(self.values)
        low, high = self.values[:2]
        if self.kind == "uniform":
            return random.uniform(low, high)
        if self.kind == "randint":
            return random.randint(low, high)
        if self.kind == "quniform":
            return random.choice(self.listed())
        drawn = math.exp(random.uniform(math.log(low), math.log(high)))
        return min(high, max(low, round(drawn))) if self.kind == "lograndint" else drawn

    def listed(self) -> tuple[SettingValue, ...]:
        """All values, for a grid. Raises ValueError for a domain that cannot be listed."""
        if self.kind == "choice":
            return self.values
        if self.kind == "randint":
            return tuple(range(self.values[0], self.values[1] + 1))
        if self.kind == "quniform":
            low, high, step = self.values
            return tuple(round(low + step * k, 12) for k in range(math.floor((high - low) / step + 1e-9) + 1))
        raise ValueError(f"{self.kind} has no list of values")

    def ends(self) -> tuple[SettingValue, ...]:
        """The values that decide whether the whole domain is valid."""
        return self.values if self.kind == "choice" else self.values[:2]

    def __str__(self) -> str:
        inside = ", ".join(json.dumps(value) for value in self.values)
        when = "".join(f", when {name} in {json.dumps(list(values))}" for name, values in self.when.items())
        return f"{self.kind} [{inside}]{when}"


def parse_domain(name: str, tree: SettingValue, where: str) -> Domain:
    """The domain of the setting `name`; `where` (file and key) starts the UserError of a mistake."""
    accepted = f"accepted: {{{' | '.join(FORMS.values())}}}, with an optional when: {{SETTING: [VALUE, ...]}}"
    if not isinstance(tree, Mapping):
        raise UserError(f"{where}: found {_shown(tree)}; {accepted}")
    kinds = [key for key in tree if key != "when"]
    for kind in kinds:
        if kind not in FORMS:
            raise UserError(f"{where}: unknown domain {kind!r}.{close_match(str(kind), FORMS)} {accepted}")
    if len(kinds) != 1:
        raise UserError(f"{where}: found {len(kinds)} domains ({', '.join(kinds) or 'none'}), expected one")
    kind = kinds[0]
    values = _values(kind, tree[kind], f"{where}.{kind}")
    return Domain(name, kind, values, _conditions(tree.get("when", {}), f"{where}.when"))


def _values(kind: str, found: SettingValue, where: str) -> tuple[SettingValue, ...]:
    if not isinstance(found, (list, tuple)):
        raise UserError(f"{where}: found {_shown(found)}, expected a list; {FORMS[kind]}")
    values = tuple(plain(value) for value in found)
    if kind == "choice":
        if not values or any(isinstance(value, (list, dict)) for value in values):
            raise UserError(f"{where}: found {_shown(found)}, expected a list of plain values")
        for index, value in enumerate(values):
            if any(value is other or (value == other and type(value) is type(other)) for other in values[:index]):
                raise UserError(f"{where}: the value {_shown(value)} is listed twice")
        return values
    wanted = 3 if kind == "quniform" else 2
    whole = kind in ("randint", "lograndint")
    is_number: Callable[[SettingValue], bool] = lambda value: isinstance(value, int if whole else (int, float))  # noqa: E731
    if len(values) != wanted or any(isinstance(value, bool) or not is_number(value) for value in values):
        kind_of = "whole numbers" if whole else "numbers"
        raise UserError(f"{where}: found {_shown(found)}, expected {wanted} {kind_of}; {FORMS[kind]}")
    if not all(math.isfinite(value) for value in values):
        raise UserError(f"{where}: found {_shown(found)}, expected finite numbers")
    low, high = values[:2]
    if low >= high:
        raise UserError(f"{where}: low {low} is not below high {high}; {FORMS[kind]}")
    if kind.startswith("log") and low <= 0:
        raise UserError(f"{where}: low is {low}; a logarithmic domain starts above 0")
    if kind == "quniform" and not 0 < values[2] <= high - low:
        raise UserError(f"{where}: step is {values[2]}, expected above 0 and at most {high - low}")
    return values


def _conditions(found: SettingValue, where: str) -> dict[str, tuple[SettingValue, ...]]:
    if not isinstance(found, Mapping):
        raise UserError(f"{where}: found {_shown(found)}, expected {{SETTING: [VALUE, ...]}}")
    return {
        name: tuple(plain(value) for value in (accepted if isinstance(accepted, (list, tuple)) else [accepted]))
        for name, accepted in found.items()
    }


def plain(value: SettingValue) -> SettingValue:
    """A YAML value; `2e-4`, which YAML 1.1 reads as a word, as the number that it is."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _shown(value: SettingValue) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
