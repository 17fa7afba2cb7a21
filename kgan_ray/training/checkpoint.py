"""Checkpoints: a folder that is there whole or not at all, and a store of them that finds the newest.

A checkpoint holds `weights.safetensors`, `optimiser.pt` (tensors and plain values: loaded with
`weights_only=True`), `settings.json` (settings and the motion's spec) and `state.json` (step, metrics, MLflow run,
dataset, kind of device). `state.json` is written last: a folder without it is not a checkpoint.

Weights and optimisers load on any device. Random state does not: a CUDA generator's has 16 bytes, a CPU's 5056.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from kgan_ray.publishing import delete_folder, whole_folder
from kgan_ray.run_folder import CHECKPOINTS, STATE, complete_checkpoints, is_checkpoint, newest_state, state_of
from kgan_ray.settings import Settings, UserError, flatten, settings_from_flat, validated
from kgan_ray.skeleton import MotionSpec
from kgan_ray.storage import StoreError, StorePath, describe
from kgan_ray.training.draws import Draws
from kgan_ray.training.gan import GAN

FORMAT_VERSION = 1
_BYTES_OF_CUDA_RANDOM = 16


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint folder holds. `state` has at least `step`, `metrics`, the step at which they were measured, and `dataset`."""

    path: str
    settings: Settings
    spec: MotionSpec
    state: dict[str, Any]
    weights: dict[str, Tensor]
    optimiser: dict[str, Any]

    @property
    def device(self) -> str:
        """The kind of device that made it: "cpu" or "cuda"."""
        is_of_cuda = self.optimiser["random"]["chance"].numel() == _BYTES_OF_CUDA_RANDOM
        return str(self.state.get("device") or ("cuda" if is_of_cuda else "cpu"))


def write_checkpoint(folder: StorePath, gan: GAN, state: Mapping[str, object]) -> None:
    """Write the GAN to `folder`, which appears only when it is complete and on disk."""
    plain = gan.state_dict()
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in plain.pop("weights").items()}
    optimiser = io.BytesIO()
    torch.save(plain, optimiser)
    described = {"settings": flatten(gan.settings), "spec": gan.spec.model_dump(mode="json")}
    record = {"format_version": FORMAT_VERSION, "device": gan.device.type, **state}
    with whole_folder(folder, STATE) as part:
        (part / "weights.safetensors").write_bytes(save(weights))
        (part / "optimiser.pt").write_bytes(optimiser.getvalue())
        (part / "settings.json").write_text(json.dumps(described, indent=1))
        (part / STATE).write_text(json.dumps(record, indent=1))


def read_checkpoint(path: str | Path | StorePath) -> Checkpoint:
    """Read a checkpoint folder, or the newest one of a run's folder. Raises UserError where there is none."""
    folder = StorePath(path)
    if is_checkpoint(folder):
        return read_folder(folder)
    newest = None
    if not folder.is_file():
        newest = CheckpointStore(folder / CHECKPOINTS).newest() or CheckpointStore(folder).newest()
    if newest is None:
        raise UserError(f"{path}: no checkpoint here (expected a folder with {STATE}, or a run's folder)")
    return newest


def restore(gan: GAN, checkpoint: Checkpoint) -> None:
    """Load a checkpoint into the GAN, whose random state is another one where `change_of_device` says so.

    Raises UserError, naming tensors and settings, if it is of another model.
    """
    ours = {name: tuple(tensor.shape) for name, tensor in gan.state_dict()["weights"].items()}
    theirs = {name: tuple(tensor.shape) for name, tensor in checkpoint.weights.items()}
    if ours != theirs:
        differ = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
        name = differ[0]
        raise UserError(
            f"{checkpoint.path}: a checkpoint of another model: {len(differ)} tensors differ, first {name} "
            f"(checkpoint {theirs.get(name, 'none')}, model {ours.get(name, 'none')}); "
            f"{_settings_that_differ(gan, checkpoint)}"
        )
    state = {"weights": checkpoint.weights, **checkpoint.optimiser}
    if checkpoint.device != gan.device.type:
        state["random"] = Draws(_new_seed(gan.settings.seed, state["step"]), gan.device).state_dict()
    gan.load_state_dict(state)


def _new_seed(seed: int, step: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {step}".encode()).digest()[:6])


def change_of_device(step: int, before: str, now: str) -> str:
    """Say that training goes on from `step` with other random numbers; the empty string on the same kind of device."""
    if before == now:
        return ""
    return f"from step {step} on {now}, before on {before}: random numbers are drawn anew, from seed and step"


def _settings_that_differ(gan: GAN, checkpoint: Checkpoint) -> str:
    ours, theirs = flatten(gan.settings), flatten(checkpoint.settings)
    shaping = ("model.", "data.frames", "training.ema_decay")
    differ = [name for name in ours if ours[name] != theirs[name] and name.startswith(shaping)]
    lines = [f"{name} is {theirs[name]} there and {ours[name]} here" for name in differ]
    if gan.spec.shape != checkpoint.spec.shape or gan.spec.num_classes != checkpoint.spec.num_classes:
        there = f"{checkpoint.spec.layout.name} {checkpoint.spec.shape}, {checkpoint.spec.num_classes} classes"
        lines.append(f"motions are {there} there; {gan.spec.shape}, {gan.spec.num_classes} classes here")
    return "; ".join(lines) or "no setting explains it"


def load_generator(path: str | Path | StorePath, device: str = "cpu") -> GAN:
    """Load the GAN of a checkpoint, ready to `sample`; its `spec` and `settings` say what it makes."""
    checkpoint = read_checkpoint(path)
    gan = GAN(checkpoint.settings, checkpoint.spec, device)
    restore(gan, checkpoint)
    return gan


class CheckpointStore:
    """The checkpoints of one run: folders `step-00000200` under a local path or a URI (s3://, gs://)."""

    def __init__(self, root: str | Path | StorePath) -> None:
        self.root = StorePath(root)

    def folders(self) -> list[StorePath]:
        """List the complete checkpoints, oldest first."""
        return complete_checkpoints(self.root)

    def newest(self) -> Checkpoint | None:
        folders = self.folders()
        return read_folder(folders[-1]) if folders else None

    def save(self, gan: GAN, state: Mapping[str, object]) -> StorePath:
        """Write the GAN as the checkpoint of its step; returns the folder.

        Raises StoreError where the store is full or fails; the checkpoints that were there stay.
        """
        folder = self.root / f"step-{gan.step_count:08d}"
        try:
            write_checkpoint(folder, gan, state)
        except (OSError, SafetensorError, RuntimeError) as error:
            raise StoreError(
                f"{folder}: the checkpoint cannot be saved ({describe(error)}); "
                "those that were saved before stay, and the same command goes on from the newest"
            ) from None
        return folder

    def prune(self, keep: int, objective: str | None = None, *, lowest: bool = True) -> None:
        """Delete all but the newest `keep` checkpoints and the best one by the metric `objective`."""
        folders = self.folders()
        kept = {*folders[-keep:], self.best(objective, lowest=lowest)}
        for folder in folders:
            if folder not in kept:
                delete_folder(folder, STATE)

    def best(self, objective: str | None, *, lowest: bool = True) -> StorePath | None:
        """Find the checkpoint with the best value of a metric, if any was measured; others carry an earlier one's value."""
        states = {folder: state_of(folder) for folder in self.folders()}
        scored = {
            folder: state["metrics"][objective]
            for folder, state in states.items()
            if objective in state["metrics"] and state.get("measured_at", state["step"]) == state["step"]
        }
        if not scored:
            return None
        return (min if lowest else max)(scored, key=lambda folder: (scored[folder], folder.name))

    def change_of_device(self, now: str) -> str:
        """Say where training goes on on another kind of device than made the newest checkpoint; else return ""."""
        state = newest_state(self.root)
        return change_of_device(state["step"], state.get("device", now), now) if state else ""

    def replace_all(self, checkpoint: StorePath) -> None:
        """Make a copy of another run's checkpoint the only one. Interrupted, and done again, it comes to the same."""
        for old in self.folders():
            delete_folder(old, STATE)
        with whole_folder(self.root / checkpoint.name, STATE) as folder:
            for file in sorted(checkpoint.children(), key=lambda file: file.name == STATE):
                (folder / file.name).write_bytes(file.read_bytes())


def read_folder(folder: StorePath) -> Checkpoint:
    """Read one checkpoint. Raises UserError where a file is missing, broken or of a newer format."""
    try:
        state = json.loads((folder / STATE).read_bytes())
        if state["format_version"] > FORMAT_VERSION:
            raise UserError(f"{folder}: written by a newer kgan_ray (format {state['format_version']}); update it")
        described = json.loads((folder / "settings.json").read_bytes())
        weights = load((folder / "weights.safetensors").read_bytes())
        optimiser = torch.load(
            io.BytesIO((folder / "optimiser.pt").read_bytes()), weights_only=True, map_location="cpu"
        )
    except StoreError:
        raise
    except (
        OSError,
        ValueError,
        KeyError,
        RuntimeError,
        EOFError,
        pickle.UnpicklingError,
        SafetensorError,
    ) as error:
        raise UserError(f"{folder}: not a whole checkpoint ({str(error).splitlines()[0]})") from None
    return Checkpoint(
        path=str(folder),
        settings=settings_from_flat(described["settings"], where=f"{folder}/settings.json"),
        spec=validated(MotionSpec, described["spec"], where=f"{folder}/settings.json"),
        state=state,
        weights=weights,
        optimiser=optimiser,
    )
