"""Checkpoints: a folder that is there whole or not at all, and a store of them that finds the newest.

A checkpoint holds `weights.safetensors`, `optimiser.pt` (tensors and plain values: loaded with
`weights_only=True`), `settings.json` (settings and the motion's spec) and `state.json` (step, metrics, MLflow run,
dataset). `state.json` is written last: a folder without it is not a checkpoint.
"""

from __future__ import annotations

import json
import pickle
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow.fs
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from kgan_ray.settings import Settings, UserError, flatten, settings_from_flat, validated
from kgan_ray.skeleton import MotionSpec
from kgan_ray.storage import describe, is_uri, open_store, publish
from kgan_ray.training.gan import GAN

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint folder holds. `state` has at least `step`, `metrics` and `dataset`."""

    path: str
    settings: Settings
    spec: MotionSpec
    state: dict[str, Any]
    weights: dict[str, Tensor]
    optimiser: dict[str, Any]


def write_checkpoint(folder: Path, gan: GAN, state: Mapping[str, Any]) -> None:
    """Write the GAN to `folder`, which appears only when it is complete and on disk."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        held = gan.state_dict()
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in held.pop("weights").items()}
        save_file(weights, part / "weights.safetensors")
        torch.save(held, part / "optimiser.pt")
        described = {"settings": flatten(gan.settings), "spec": gan.spec.model_dump(mode="json")}
        (part / "settings.json").write_text(json.dumps(described, indent=1), encoding="utf-8")
        record = {"format_version": FORMAT_VERSION, **state}
        (part / "state.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
        publish(part, folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint folder, or the newest one of a run's folder. Raises UserError where there is none."""
    store = CheckpointStore(str(path))
    if store.is_checkpoint():
        return store.read_folder(store.root)
    newest = CheckpointStore(f"{str(path).rstrip('/')}/checkpoints").newest()
    if newest is None:
        newest = store.newest()
    if newest is None:
        raise UserError(f"{path}: no checkpoint here (expected a folder with state.json, or a run's folder)")
    return newest


def restore(gan: GAN, checkpoint: Checkpoint) -> None:
    """Load a checkpoint into the GAN. Raises UserError, naming tensors and settings, if it is of another model."""
    wanted = {name: tuple(tensor.shape) for name, tensor in gan.state_dict()["weights"].items()}
    found = {name: tuple(tensor.shape) for name, tensor in checkpoint.weights.items()}
    if wanted != found:
        differ = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        name = differ[0]
        raise UserError(
            f"{checkpoint.path}: a checkpoint of another model: {len(differ)} tensors differ, first {name} "
            f"(checkpoint {found.get(name, 'none')}, model {wanted.get(name, 'none')}); "
            f"{_settings_that_differ(gan, checkpoint)}"
        )
    gan.load_state_dict({"weights": checkpoint.weights, **checkpoint.optimiser})


def _settings_that_differ(gan: GAN, checkpoint: Checkpoint) -> str:
    ours, theirs = flatten(gan.settings), flatten(checkpoint.settings)
    shaping = ("model.", "data.frames", "training.ema_decay")
    differ = [name for name in ours if ours[name] != theirs[name] and name.startswith(shaping)]
    lines = [f"{name} is {theirs[name]} there and {ours[name]} here" for name in differ]
    if gan.spec.shape != checkpoint.spec.shape or gan.spec.num_classes != checkpoint.spec.num_classes:
        there = f"{checkpoint.spec.layout.name} {checkpoint.spec.shape}, {checkpoint.spec.num_classes} classes"
        lines.append(f"motions are {there} there; {gan.spec.shape}, {gan.spec.num_classes} classes here")
    return "; ".join(lines) or "no setting explains it"


def load_generator(path: str | Path, device: str = "cpu") -> GAN:
    """The GAN of a checkpoint, ready to `sample`; its `spec` and `settings` say what it makes."""
    checkpoint = read_checkpoint(path)
    gan = GAN(checkpoint.settings, checkpoint.spec, device)
    restore(gan, checkpoint)
    return gan


class CheckpointStore:
    """The checkpoints of one run: folders `step-00000200` under a local path or a URI (s3://, gs://)."""

    def __init__(self, root: str) -> None:
        self.is_local = not is_uri(root)
        try:
            self.filesystem, self.root = open_store(str(Path(root).expanduser()) if self.is_local else root)
        except OSError as error:
            raise UserError(f"{root}: cannot be opened ({error})") from None

    def is_checkpoint(self, folder: str | None = None) -> bool:
        info = self.filesystem.get_file_info(f"{folder or self.root}/state.json")
        return info.type == pyarrow.fs.FileType.File

    def folders(self) -> list[str]:
        """Complete checkpoints, oldest first."""
        selector = pyarrow.fs.FileSelector(self.root, allow_not_found=True)
        found = sorted(
            info.path
            for info in self.filesystem.get_file_info(selector)
            if info.type == pyarrow.fs.FileType.Directory and info.base_name.startswith("step-")
        )
        return [folder for folder in found if self.is_checkpoint(folder)]

    def newest(self) -> Checkpoint | None:
        folders = self.folders()
        return self.read_folder(folders[-1]) if folders else None

    def save(self, gan: GAN, state: Mapping[str, Any]) -> str:
        """Write the GAN as the checkpoint of its step; returns the folder.

        Raises UserError where the store is full or fails; the checkpoints that were there stay.
        """
        folder = f"{self.root}/step-{gan.step_count:08d}"
        try:
            self._write(folder, gan, state)
        except (OSError, SafetensorError, RuntimeError) as error:
            raise UserError(
                f"{folder}: the checkpoint cannot be saved ({describe(error)}); "
                "those that were saved before stay, and the same command goes on from the newest"
            ) from None
        return folder

    def _write(self, folder: str, gan: GAN, state: Mapping[str, Any]) -> None:
        if self.is_local:
            write_checkpoint(Path(folder), gan, state)
            return
        with tempfile.TemporaryDirectory() as scratch:
            local = Path(scratch) / "checkpoint"
            write_checkpoint(local, gan, state)
            self._take(local, folder)

    def prune(self, keep: int, objective: str | None = None, *, lowest: bool = True) -> None:
        """Delete all but the newest `keep` checkpoints and the best one by the metric `objective`."""
        folders = self.folders()
        kept = set(folders[-keep:])
        if best := self.best(objective, lowest=lowest):
            kept.add(best)
        for folder in folders:
            if folder not in kept:
                self._delete(folder)

    def best(self, objective: str | None, *, lowest: bool = True) -> str | None:
        """The checkpoint with the best value of a metric, if any has one."""
        scored = [(self.state(folder)["metrics"].get(objective), folder) for folder in self.folders()]
        scored = [(value, folder) for value, folder in scored if value is not None]
        if not scored:
            return None
        return (min if lowest else max)(scored)[1]

    def state(self, folder: str) -> dict[str, Any]:
        with self.filesystem.open_input_stream(f"{folder}/state.json") as stream:
            state: dict[str, Any] = json.loads(stream.read())
            return state

    def read_folder(self, folder: str) -> Checkpoint:
        """Read one checkpoint. Raises UserError where a file is missing, broken or of a newer format."""
        with self.on_this_machine(folder) as local:
            return _read(local, shown_as=folder)

    @contextmanager
    def on_this_machine(self, folder: str) -> Iterator[Path]:
        """One checkpoint's folder, or a copy of it for as long as it is needed."""
        if self.is_local:
            yield Path(folder)
            return
        with tempfile.TemporaryDirectory() as scratch:
            copy = Path(scratch) / PurePosixPath(folder).name
            copy.mkdir()
            pyarrow.fs.copy_files(folder, str(copy), source_filesystem=self.filesystem)
            yield copy

    def replace_all(self, donor: CheckpointStore, checkpoint: str) -> None:
        """Make a copy of another run's checkpoint the only one. Interrupted, and done again, it comes to the same."""
        for old in self.folders():
            self._delete(old)
        with donor.on_this_machine(checkpoint) as local:
            self._take(local, f"{self.root}/{local.name}")

    def _delete(self, folder: str) -> None:
        self.filesystem.delete_file(f"{folder}/state.json")  # first: what is left is no checkpoint
        self.filesystem.delete_dir(folder)

    def _take(self, local: Path, folder: str) -> None:
        """Copy a checkpoint on this machine here, `state.json` last."""
        self.filesystem.create_dir(folder)  # object stores need none, file systems do
        for file in sorted(local.iterdir(), key=lambda file: file.name == "state.json"):
            pyarrow.fs.copy_files(str(file), f"{folder}/{file.name}", destination_filesystem=self.filesystem)


def _read(folder: Path, shown_as: str) -> Checkpoint:
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        if state["format_version"] > FORMAT_VERSION:
            raise UserError(
                f"{shown_as}: written by a newer kgan_ray (format {state['format_version']}); update it"
            )
        described = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
        weights = load_file(folder / "weights.safetensors")
        optimiser = torch.load(folder / "optimiser.pt", weights_only=True, map_location="cpu")
    except (
        OSError,
        ValueError,
        KeyError,
        RuntimeError,
        EOFError,
        pickle.UnpicklingError,
        SafetensorError,
    ) as error:
        raise UserError(f"{shown_as}: not a whole checkpoint ({str(error).splitlines()[0]})") from None
    return Checkpoint(
        path=shown_as,
        settings=settings_from_flat(described["settings"], where=f"{shown_as}/settings.json"),
        spec=validated(MotionSpec, described["spec"], where=f"{shown_as}/settings.json"),
        state=state,
        weights=weights,
        optimiser=optimiser,
    )
