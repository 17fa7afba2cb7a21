"""Every setting of the project: one tree of frozen models, and dotted overrides of it.

`resolve_settings("demo", {"techniques.pooling": "max"})` is what `--preset demo --set
techniques.pooling=max`, a search space and a trial all come down to: any trial can be repeated by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from kgan_ray.presets import PRESETS
from kgan_ray.resources import ResourceSettings
from kgan_ray.text import close_match
from kgan_ray.validation import FrozenModel, explained

Model = TypeVar("Model", bound=BaseModel)
SettingValue = Any  # as YAML has it: a number, a word, true or false, null, a list of those
Overrides = Mapping[str, SettingValue]  # by dotted name


class UserError(Exception):
    """A mistake that the user can mend: the verbs print it as one line and exit with code 2."""


def refuse_password(address: str, *, where: str, instead: str) -> None:
    """Raise UserError if a URI holds a password: addresses go into records, logs and checkpoints."""
    if "://" in address and urlsplit(address).password:
        raise UserError(f"{where}: the address holds a password, which would be recorded; {instead}")


class DataSettings(FrozenModel):
    """Which motions are trained on, and how a recording becomes a motion (C, T, V) in [-1, 1]."""

    path: str | None = None  # a dataset folder or URI that `prepare` wrote; None = the demo data set
    benchmark: Literal["xsub", "xview", "xset", "own", "all"] = "all"  # which rows train, which test
    frames: PositiveInt = 64  # T, a multiple of 16
    window: Literal["first", "resample", "random"] = "first"  # first = the published protocol
    centre: Literal["none", "first", "frame"] = "none"  # root joint moved to 0 in the first or in every frame
    bodies: Literal[1, 2] = 1  # 2 = both persons as one skeleton, of the classes that have two; 1 = published
    held_in: Literal["memory", "disk"] = "memory"  # disk = mapped from a temporary file: more data than memory

    @model_validator(mode="after")
    def _frames_fit_the_networks(self) -> DataSettings:
        if self.frames % 16:
            raise ValueError(f"frames is {self.frames}; the networks need a multiple of 16")
        return self


class ModelSettings(FrozenModel):
    """Sizes of the two networks. The defaults are the published ones."""

    latent_dim: PositiveInt = 512  # numbers in z and in w
    mapping_depth: PositiveInt = 4  # linear layers from z to w
    width: PositiveFloat = 1.0  # factor on the channels of every block; 1 = published
    mapping_gain: PositiveFloat = 1.0  # factor on the mapping's first weights; 1 = published, N(0, 1)
    # Both networks work on what each joint's coordinates are beyond their mean, over their deviation; false = published.
    standardised: bool = False
    # Times that neighbouring frames of the generator's last block are blended, (1, 2, 1) / 4; 0 = published.
    smoothing: NonNegativeInt = 0
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

    steps: PositiveInt = 1_250_000  # of the discriminator, from the beginning
    batch_size: PositiveInt = 32  # over all workers
    n_critic: PositiveInt = 5  # discriminator steps to a generator step
    generator_learning_rate: PositiveFloat = 2e-4  # of Adam
    discriminator_learning_rate: PositiveFloat = 2e-4  # of Adam
    # Both rates fall to this share of themselves over the second half of the steps; 1 = constant, as published.
    learning_rate_decay: float = Field(default=1.0, gt=0.0, le=1.0)
    beta1: float = Field(default=0.5, ge=0.0, lt=1.0)  # of Adam, both networks
    beta2: float = Field(default=0.999, ge=0.0, lt=1.0)  # of Adam, both networks
    gradient_penalty: NonNegativeFloat = 10.0  # weight of the squared distance of the slope from 1
    auxiliary_weight: NonNegativeFloat = 1.0  # of the classification loss, if model.auxiliary_classifier
    auxiliary_generator_weight: NonNegativeFloat = 0.1  # the same in the generator; both as in WGAN-GP's AC-GAN
    balanced_classes: bool = False  # draw rare classes' motions as often as others', over the batch
    ema_decay: float = Field(default=0.0, ge=0.0, lt=1.0)  # generator average; 0 = off, as published
    # Set the statistics of the generator's BatchNorm anew before it is measured or saved; false = as published.
    recalibrate_batch_norm: bool = False
    # Of products in training; auto = bfloat16 where the device has it in hardware, else float32. Scores are float32.
    precision: Literal["auto", "float32", "tf32", "bfloat16"] = "float32"
    # Launch a step whole: needs a GPU and one worker; auto = where there are these.
    cuda_graph: bool | Literal["auto"] = "auto"
    log_every: PositiveInt = 50  # steps between recorded losses
    checkpoint_every: PositiveInt = 5_000  # steps; what a kill can lose
    keep_checkpoints: PositiveInt = 2  # the latest ones; the best by the objective stays as well

    def share_of_rates(self, step: int) -> float:
        """Return the share of both learning rates with which the next step is taken, after `step` of them."""
        second_half = min(max(2 * (step + 1) / self.steps - 1, 0.0), 1.0)
        return 1 - (1 - self.learning_rate_decay) * second_half

    @property
    def uses_cuda_graph(self) -> bool:
        """Whether a step is launched whole; not while it is undecided."""
        return self.cuda_graph is True


class EvaluationSettings(FrozenModel):
    """What is measured while training, and on how many generated motions."""

    every_steps: PositiveInt = 10_000  # steps between evaluations
    metrics: tuple[str, ...] = ("fid", "accuracy", "nearest_ratio")  # the first one says which checkpoint is best
    mode: Literal["min", "max"] | None = None  # which value of the first one is best; None = as the metric says
    num_motions: PositiveInt = 2_000  # generated for each evaluation; docs/metrics.md says of which classes
    truncation: float = Field(default=1.0, gt=0.0, le=1.0)  # psi in w; 1 = off
    extractor: str | None = None  # a classifier of the user's own; None = the one trained on the dataset
    seed: NonNegativeInt = 0  # of the latent points and noise that are evaluated

    @model_validator(mode="before")
    @classmethod
    def _without_batch_norm(cls, tree: object) -> object:
        """Drop a setting of earlier records: evaluations had a generator of their own by it."""
        return {n: v for n, v in tree.items() if n != "batch_norm"} if isinstance(tree, Mapping) else tree


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
    seed: NonNegativeInt = 0  # of weights, batches and noise: all that is random in training

    @model_validator(mode="after")
    def _label_noise_has_a_label(self) -> Settings:
        noise, model = self.techniques.label_noise_std, self.model
        if noise and (model.projection or model.auxiliary_classifier):
            on = [name for name in ("projection", "auxiliary_classifier") if getattr(model, name)]
            raise ValueError(
                f"techniques.label_noise_std is {noise}, but with model.{on[0]} the label does not enter the discriminator "
                f"where the noise is added; {' '.join(f'--set model.{name}=false' for name in on)} allows it"
            )
        return self

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


# Settings that a run or sweep may be continued with other values of: they do not change what it computes.
MAY_CHANGE = (
    "resources.",
    "tracking.",
    "data.path",
    "training.cuda_graph",
    "training.log_every",
    "training.keep_checkpoints",
)


def changed_settings(
    before: Settings, after: Settings, *, free: Sequence[str] = MAY_CHANGE
) -> dict[str, tuple[object, object]]:
    """Return the dotted settings that differ, with both values; `free` lists those, and whole branches, that may."""
    earlier, now = flatten(before), flatten(after)
    return {
        name: (earlier[name], value)
        for name, value in now.items()
        if earlier[name] != value and not name.startswith(tuple(free))
    }


def setting_names(model: type[BaseModel] = Settings, prefix: str = "") -> dict[str, object]:
    """Return every dotted setting and its default: {'data.path': None, ...}."""
    names: dict[str, object] = {}
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
    preset: str | None, overrides: Mapping[str, object] | None = None, *, where: str = "--set"
) -> Settings:
    """Return the preset's settings with the dotted overrides on top.

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


def settings_from_flat(flat: Mapping[str, object], *, where: str) -> Settings:
    """Build settings from dotted names; everything unnamed keeps its default."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        node = tree
        *branches, leaf = name.split(".")
        for branch in branches:
            node = node.setdefault(branch, {})
        node[leaf] = value
    return validated(Settings, tree, where=where)


def override(settings: Settings, overrides: Mapping[str, object], *, where: str = "override") -> Settings:
    """Return the same settings with some dotted ones changed."""
    for name in overrides:
        check_setting_name(name, where)
    return settings_from_flat({**flatten(settings), **overrides}, where=where)


def flatten(settings: BaseModel, prefix: str = "") -> dict[str, Any]:
    """Return settings as {dotted name: plain value}."""
    flat: dict[str, Any] = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat


def validated(model: type[Model], tree: object, *, where: str) -> Model:
    """Return `model.model_validate(tree)`; raise its first error as a UserError: the place, the value, what is accepted."""
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise UserError(f"{where}: {explained(model, error)}") from None
