"""Every setting of the project: one tree of frozen models, named presets of it, and dotted overrides.

`resolve_settings("demo", {"techniques.pooling": "max"})` is what `--preset demo --set
techniques.pooling=max`, a search space and a trial all come down to: any trial can be repeated by hand.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar, get_args
from urllib.parse import urlsplit

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

Model = TypeVar("Model", bound=BaseModel)


class UserError(Exception):
    """A mistake that the user can mend: the verbs print it as one line and exit with code 2."""


def refuse_password(address: str, *, where: str, instead: str) -> None:
    """Raise UserError if a URI holds a password: addresses go into records, logs and checkpoints."""
    if "://" in address and urlsplit(address).password:
        raise UserError(f"{where}: the address holds a password, which would be recorded; {instead}")


def close_match(name: str, accepted: Iterable[str]) -> str:
    """' Did you mean X?' for the nearest accepted name, or the empty string."""
    near = difflib.get_close_matches(name, list(accepted), n=1, cutoff=0.5)
    return f" Did you mean {near[0]}?" if near else ""


class FrozenModel(BaseModel):
    """A pydantic model that cannot change and refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class DataSettings(FrozenModel):
    """Which motions are trained on, and how a recording becomes a motion (C, T, V) in [-1, 1]."""

    path: str | None = None  # a dataset folder or URI that `prepare` wrote; None = the demo data set
    benchmark: Literal["xsub", "xview", "xset", "all"] = "all"  # which rows train, which test
    frames: PositiveInt = 64  # T, a multiple of 16
    window: Literal["first", "resample", "random"] = "first"  # first = the published protocol
    centre: Literal["none", "first", "frame"] = "none"  # root joint moved to 0 in the first or in every frame
    held_in: Literal["memory", "disk"] = "memory"  # disk = mapped from a temporary file: more data than memory

    @model_validator(mode="after")
    def _frames_fit_the_networks(self) -> DataSettings:
        if self.frames % 16:
            raise ValueError(f"frames is {self.frames}; the networks need a multiple of 16")
        return self


class ModelSettings(FrozenModel):
    """Sizes of the two networks. The defaults are the published ones."""

    latent_dim: PositiveInt = 512
    mapping_depth: PositiveInt = 4  # linear layers from z to w
    width: PositiveFloat = 1.0  # factor on the channels of every block; 1 = published
    mapping_gain: PositiveFloat = 1.0  # factor on the mapping's first weights; 1 = published, N(0, 1)
    projection: bool = False  # score += <embedding of the label, features> (Miyato and Koyama, 2018)
    auxiliary_classifier: bool = False  # name the class too (Odena et al., 2017), by the projection where it is on


class TechniqueSettings(FrozenModel):
    """Changes to the baseline that a sweep can switch on. Every default is neutral."""

    pooling: Literal["avg", "max"] = "avg"  # how the discriminator pools over (T, V)
    input_noise_std: NonNegativeFloat = 0.0  # Gaussian noise where the discriminator drops joints; 0 = off
    input_noise_kind: Literal["scalar", "elementwise"] = "scalar"  # scalar = one draw per call, as published
    label_noise_std: NonNegativeFloat = 0.0  # Gaussian noise on the discriminator's label embedding; 0 = off
    mask_quantile: float | None = Field(default=None, ge=0.0, le=1.0)  # None = off; published 0.5
    mask_latent_std: PositiveFloat = 0.01  # how far z is moved to find the parts that react most
    mask_noise_std: NonNegativeFloat = 0.1  # noise added to those parts of a fake before it is judged


class TrainingSettings(FrozenModel):
    """The optimisation. A step is a discriminator step; every `n_critic`-th brings a generator step."""

    steps: PositiveInt = 1_250_000
    batch_size: PositiveInt = 32  # over all workers
    n_critic: PositiveInt = 5
    generator_learning_rate: PositiveFloat = 2e-4
    discriminator_learning_rate: PositiveFloat = 2e-4
    beta1: float = Field(default=0.5, ge=0.0, lt=1.0)
    beta2: float = Field(default=0.999, ge=0.0, lt=1.0)
    gradient_penalty: NonNegativeFloat = 10.0
    auxiliary_weight: NonNegativeFloat = 1.0  # of the classification loss, if model.auxiliary_classifier
    auxiliary_generator_weight: NonNegativeFloat = 0.1  # the same in the generator; both as in WGAN-GP's AC-GAN
    balanced_classes: bool = False  # draw rare classes' motions as often as others'
    ema_decay: float = Field(default=0.0, ge=0.0, lt=1.0)  # generator average; 0 = off, as published
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    cuda_graph: bool = False  # launch a step whole; needs a GPU and one worker
    log_every: PositiveInt = 50
    checkpoint_every: PositiveInt = 5_000
    keep_checkpoints: PositiveInt = 2  # the latest ones; the best by the objective stays as well


class EvaluationSettings(FrozenModel):
    """What is measured while training, and on how many generated motions."""

    every_steps: PositiveInt = 10_000
    metrics: tuple[str, ...] = ("fid", "accuracy")
    num_motions: PositiveInt = 2_000  # generated for each evaluation, spread evenly over the classes
    batch_norm: Literal["running", "batch"] = "running"  # statistics that the generator's BatchNorm uses
    truncation: float = Field(default=1.0, gt=0.0, le=1.0)  # psi in w; 1 = off
    extractor: str | None = None  # a classifier of the user's own; None = the one trained on the dataset
    seed: NonNegativeInt = 0


class ResourceSettings(FrozenModel):
    """What one training run may use."""

    num_workers: PositiveInt = 1
    min_workers: PositiveInt | None = (
        None  # train on as few as these while there are no more; None = exactly num_workers
    )
    cpus_per_worker: PositiveFloat = 1.0
    gpus_per_worker: NonNegativeFloat = 0.0


class TrackingSettings(FrozenModel):
    """Where MLflow keeps the record."""

    uri: str | None = None  # None = $MLFLOW_TRACKING_URI, else a SQLite file in the results folder
    experiment: str | None = None  # None = the name of the run or sweep


class Settings(FrozenModel):
    """All of them. Stored in every checkpoint and every MLflow run."""

    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    techniques: TechniqueSettings = TechniqueSettings()
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    resources: ResourceSettings = ResourceSettings()
    tracking: TrackingSettings = TrackingSettings()
    seed: NonNegativeInt = 0

    @model_validator(mode="after")
    def _workers_fit(self) -> Settings:
        if self.training.batch_size % self.resources.num_workers:
            raise ValueError(
                f"training.batch_size is {self.training.batch_size}, "
                f"which {self.resources.num_workers} workers cannot share evenly"
            )
        if (self.resources.min_workers or 1) > self.resources.num_workers:
            raise ValueError(
                f"resources.min_workers is {self.resources.min_workers}, more than the "
                f"{self.resources.num_workers} of resources.num_workers"
            )
        return self


_SMALL = {"model.width": 0.25, "model.latent_dim": 64}

_UCLA: dict[str, Any] = {
    **_SMALL,
    "data.benchmark": "xview",
    "data.centre": "frame",
    "data.window": "resample",
    # At this budget the published rates move like a body long before they obey a label.
    "training.generator_learning_rate": 4e-4,
    "training.discriminator_learning_rate": 4e-4,
    "training.n_critic": 2,
    "training.ema_decay": 0.99,
    "training.steps": 20_000,
    "training.checkpoint_every": 1_000,
    "evaluation.every_steps": 1_000,
    "evaluation.batch_norm": "batch",
}

PRESETS: dict[str, dict[str, Any]] = {
    "demo": {
        **_SMALL,
        "data.benchmark": "xsub",
        "data.centre": "frame",
        "data.window": "resample",
        "data.frames": 32,
        "training.steps": 600,
        # Five times the published rates, and more generator steps: the demo has a minute a run, not days.
        "training.generator_learning_rate": 1e-3,
        "training.discriminator_learning_rate": 1e-3,
        "training.n_critic": 2,
        "training.log_every": 50,
        "training.checkpoint_every": 200,
        "evaluation.every_steps": 200,
        "evaluation.num_motions": 1000,
        "evaluation.batch_norm": "batch",
    },
    "ucla-xview": _UCLA,
    # What makes the label matter early; see docs/training.md.
    "ucla-xview-classes": {
        **_UCLA,
        "model.projection": True,
        "model.auxiliary_classifier": True,
        "model.mapping_gain": 0.2,
        "training.auxiliary_weight": 3.0,
        "training.auxiliary_generator_weight": 0.0,
        "training.balanced_classes": True,
    },
    "ntu60-xsub": {"data.benchmark": "xsub", "model.mapping_depth": 4},
    "ntu60-xview": {"data.benchmark": "xview", "model.mapping_depth": 6},
    "ntu120-xsub": {"data.benchmark": "xsub", "model.mapping_depth": 8, "training.steps": 2_300_000},
    "ntu120-xset": {"data.benchmark": "xset", "model.mapping_depth": 8, "training.steps": 2_300_000},
    "h36m": {"data.benchmark": "all", "model.mapping_depth": 8},
}


def setting_names(model: type[BaseModel] = Settings, prefix: str = "") -> dict[str, Any]:
    """Every dotted setting and its default: {'data.path': None, ...}."""
    names: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names |= setting_names(field.annotation, f"{prefix}{name}.")
        else:
            names[prefix + name] = field.default
    return names


def check_setting_name(name: str, where: str) -> None:
    """Raise UserError, with the nearest name, unless `name` is a dotted setting. `where` says who asked."""
    names = setting_names()
    if name not in names:
        close = close_match(name, names)
        if not close:  # a right leaf under the wrong branch: techniques.pooling for model.pooling
            leaves = [full for full in names if full.rsplit(".", 1)[-1] == name.rsplit(".", 1)[-1]]
            close = f" Did you mean {leaves[0]}?" if leaves else ""
        raise UserError(f"{where}: unknown setting {name!r}.{close} `--dry-run` prints all settings")


def resolve_settings(
    preset: str | None, overrides: Mapping[str, Any] | None = None, *, where: str = "--set"
) -> Settings:
    """The preset's settings with the dotted overrides on top.

    `where` (a file, an option) starts the message of the UserError that a wrong name or value raises.
    """
    if preset is not None and preset not in PRESETS:
        raise UserError(
            f"--preset: unknown preset {preset!r}.{close_match(preset, PRESETS)} Known: {', '.join(PRESETS)}"
        )
    overrides = dict(overrides or {})
    for name in overrides:
        check_setting_name(name, where)
    return settings_from_flat({**PRESETS.get(preset or "", {}), **overrides}, where=where)


def settings_from_flat(flat: Mapping[str, Any], *, where: str) -> Settings:
    """Settings from dotted names; everything unnamed keeps its default."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        node = tree
        *branches, leaf = name.split(".")
        for branch in branches:
            node = node.setdefault(branch, {})
        node[leaf] = value
    return validated(Settings, tree, where=where)


def override(settings: Settings, overrides: Mapping[str, Any], *, where: str = "override") -> Settings:
    """The same settings with some dotted ones changed."""
    for name in overrides:
        check_setting_name(name, where)
    return settings_from_flat({**flatten(settings), **overrides}, where=where)


def flatten(settings: BaseModel, prefix: str = "") -> dict[str, Any]:
    """Settings as {dotted name: plain value}."""
    flat: dict[str, Any] = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat


def parse_overrides(items: Sequence[str]) -> dict[str, Any]:
    """`["techniques.pooling=max", "seed=3"]` as a dictionary; values are read as YAML."""
    overrides = {}
    for item in items:
        name, equals, text = item.partition("=")
        if not equals:
            raise UserError(f"--set {item}: expected NAME=VALUE, for example techniques.pooling=max")
        overrides[name.strip()] = _parse_value(text)
    return overrides


def _parse_value(text: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    if isinstance(value, str):  # YAML 1.1 reads 2e-4 as a word
        try:
            return float(value)
        except ValueError:
            return value
    return value


def validated(model: type[Model], tree: Any, *, where: str) -> Model:
    """`model.model_validate(tree)`; its first error as a UserError: the place, the value, what is accepted."""
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise UserError(f"{where}: {_explain(model, error)}") from None


def _explain(model: type[BaseModel], error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = _fields_at(model, first["loc"][:-1])
        close = close_match(str(first["loc"][-1]), known)
        return f"unknown key {name!r}.{close} Accepted: {', '.join(known)}"
    if first["type"] == "value_error":  # one of our own validators: it names the setting itself
        return f"{name}: {first['ctx']['error']}" if name else str(first["ctx"]["error"])
    found = json.dumps(first["input"], default=str)
    if len(found) > 80:
        found = found[:77] + "..."
    close = ""
    if first["type"] == "literal_error":
        accepted = first["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        close = close_match(str(first["input"]), accepted)
    return f"{name}: found {found}, {first['msg'][0].lower()}{first['msg'][1:]}.{close}"


def _fields_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """The names of the fields of the model nested at `loc`."""
    here: Any = model
    for part in loc:
        field = getattr(here, "model_fields", {}).get(part)
        if field is None:
            continue
        candidates = [field.annotation, *get_args(field.annotation)]
        here = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), here)
    return list(here.model_fields)
