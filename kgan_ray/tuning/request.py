"""A sweep that is asked for: its question read, its folder named, every mistake refused. Nothing is written or started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kgan_ray.data.dataset import Dataset
from kgan_ray.settings import (
    Overrides,
    Settings,
    UserError,
    changed_settings,
    flatten,
    override,
    resolve_settings,
)
from kgan_ray.storage import StorePath
from kgan_ray.text import short_overrides, span
from kgan_ray.tuning.question.sections import Budget
from kgan_ray.tuning.question.space import Space, base_settings, load_space, parse_space
from kgan_ray.tuning.search.proposals import num_explored
from kgan_ray.tuning.state import FILE, Sweep, load_sweep


@dataclass(frozen=True)
class Request:
    """A sweep that was asked for, checked: nothing has been written or started."""

    space: Space
    settings: Settings  # what every trial starts from
    folder: StorePath
    record: Sweep | None  # of one that is to go on
    preset: str = ""  # from which the settings came; of one that begins

    @property
    def seeds(self) -> int:
        """How many fresh seeds confirm each configuration, over all rounds."""
        return sum(self.record.rounds) if self.record else self.space.confirm.seeds

    @property
    def most_seeds(self) -> int:
        """How many they may become, where somebody is not decided before."""
        return max(self.seeds, self.space.confirm.seeds_at_most)

    @property
    def num_confirmed(self) -> int:
        """How many confirmation runs the sweep will have at least, if all goes well."""
        return self.seeds * self.space.num_compared

    def lines(self) -> list[str]:
        """Describe the question: its data, its runs, and each setting's or configuration's values."""
        space = self.space
        compared = (
            f"{len(space.configurations)} configurations"
            if space.configurations
            else f"the best {space.confirm.top}" + (" and the baseline" if space.confirm.baseline else "")
        )
        under = f" under {len(space.groups)} conditions ({', '.join(space.groups)})" if space.groups else ""
        until = ", until each is decided" if self.most_seeds > self.seeds else ""
        return [
            self._data(),
            *([f"explore: {num_explored(space)} trials ({space.search.algorithm})"] if space.explores else []),
            f"confirm: {span(self.num_confirmed, self.most_seeds * space.num_compared)} runs: {compared}{under}, "
            f"{span(self.seeds, self.most_seeds)} fresh seeds each{until}",
            *([f"budget: {space.budget}"] if str(space.budget) else []),
            *(f"{domain.name}: {domain}" for domain in space.domains),
            *(
                f"{name}: {short_overrides(overrides) or 'the preset'}"
                for name, overrides in space.configurations.items()
            ),
        ]

    def _data(self) -> str:
        """Say what the sweep is measured on. Raises UserError for a dataset that is not there, or has not its benchmark."""
        data = self.settings.data
        if data.path is None:
            return "data: the demo's synthetic motion"
        dataset = Dataset.open(data.path)
        split = dataset.split_counts(data)
        return (
            f"data: {dataset.path}, {data.benchmark}: {split.train} motions to train on, {split.test} to test on"
        )


def new_request(
    space: Space | Path | str,
    *,
    preset: str | None = None,
    overrides: Overrides | None = None,
    data: str | None = None,
    name: str | None = None,
    results: Path | str = "results",
) -> Request:
    """Read and check the question of a sweep that begins. Arguments and errors as for `run_sweep`."""
    space = _asked(space, preset)
    folder = _folder(results, name or space.name)
    settings = base_settings(space, preset, overrides or {})
    return Request(space, _with_data(settings, data), folder, None, preset or space.preset or "")


def resumed_request(
    name: str | None,
    *,
    space: Path | str | None = None,
    preset: str | None = None,
    overrides: Overrides | None = None,
    data: str | None = None,
    results: Path | str = "results",
) -> Request:
    """Read the record of a sweep that goes on, or the question of one that has not begun. As `resume_sweep`."""
    asked = _asked(space, preset) if space else None
    folder = _folder(results, name or (asked.name if asked else ""))
    if not (folder / FILE).exists():
        if asked is None:
            raise UserError(f"{folder}: no sweep here to resume (expected {FILE})")
        return new_request(asked, preset=preset, overrides=overrides, data=data, name=name, results=results)
    record = load_sweep(folder)
    if asked is not None and _without_words(asked.tree) != _without_words(record.space):
        raise UserError(f"{space} differs from the space that {folder} was started with; use another --name")
    settings = _resumed_settings(record, preset, overrides or {})
    return Request(
        parse_space(record.space, name=folder.name, where=str(folder / FILE)),
        _with_data(settings, data),
        folder,
        record,
    )


def _asked(space: Space | Path | str, preset: str | None) -> Space:
    """Read the question. A file's budget is for its own preset: with another there is none but that of --budget."""
    space = space if isinstance(space, Space) else load_space(space)
    if preset in (None, space.preset):
        return space
    tree = {key: value for key, value in space.tree.items() if key != "budget"}
    return space.model_copy(update={"budget": Budget(), "tree": tree})


def _without_words(tree: Mapping[str, object]) -> dict[str, object]:
    """Return the question without its wording, which may be improved and is not in records before format 4."""
    return {key: value for key, value in tree.items() if key != "question"}


def _folder(results: Path | str, name: str) -> StorePath:
    if Path(name).name != name or name.startswith("."):
        raise UserError(f"--name {name!r}: expected a name without slashes")
    return StorePath(str(results)) / name


def _with_data(settings: Settings, data: str | None) -> Settings:
    return override(settings, {"data.path": data}, where="--data") if data else settings


def _resumed_settings(record: Sweep, preset: str | None, overrides: Overrides) -> Settings:
    """Return the sweep's own settings with those changes that leave its answer as it is."""
    changes = dict(overrides)
    if preset:
        changes = {**flatten(resolve_settings(preset)), **record.space.get("settings", {}), **changes}
        changes.pop("evaluation.metrics", None)
    after = override(record.settings, changes, where="--set")
    for name, (before, value) in changed_settings(record.settings, after).items():
        raise UserError(
            f"--set {name}: the sweep was started with {before}, found {value}; "
            "a sweep cannot change its question, use another --name"
        )
    return after
