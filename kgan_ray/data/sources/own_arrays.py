"""The user's own arrays as a source: one `.npz` of motions and labels."""

from __future__ import annotations

import functools
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from kgan_ray.data.recording import Recording, as_float32, check_motion
from kgan_ray.data.sources.published_arrays import fitting_layout, numbered
from kgan_ray.data.sources.source import Item, Source, Traits
from kgan_ray.settings import UserError
from kgan_ray.skeleton import SkeletonLayout

MAX_BYTES = 8 << 30  # of the arrays of one .npz, unpacked


class OwnArrays(Source):
    """The user's `.npz`, which is read whole into memory, and by each worker.

    `motions` float (N, T, V, C) in metres, with `lengths` (N,) where shorter ones are padded; or, without
    padding, (sum of lengths, V, C) end to end with `lengths`. `labels` (N,): numbers from 0, or names. Optional:
    `class_names`, `names`, `subjects`, `cameras`, `setups`, each (N,) but the first.
    """

    kind = "npz"

    def __init__(self, path: Path, layout: SkeletonLayout | None) -> None:
        self.location = str(path.absolute())
        arrays = _loaded(self.location)
        for key in ("motions", "labels"):
            if key not in arrays:
                raise UserError(f"{path}: has no array {key!r}; found: {', '.join(arrays) or 'none'}")
        motions = arrays["motions"]
        if motions.ndim not in (3, 4) or motions.dtype.kind not in "fiu" or 0 in motions.shape:
            raise UserError(
                f"{path}: motions has shape {motions.shape}; expected (N, T, V, C), or (T, V, C) end to end"
            )
        joints, coordinates = motions.shape[-2:]
        layout = fitting_layout(path, layout, joints, coordinates)
        self._bounds = _bounds(path, arrays)
        labels, names = _labels(path, arrays, len(self._bounds))
        self._labels = labels
        self._ids = {key: _ids(path, arrays, key, len(labels)) for key in ("setups", "cameras", "subjects")}
        own = [str(name) for name in arrays["names"]] if "names" in arrays else []
        if own and len(own) != len(labels):
            raise UserError(f"{path}: {len(own)} names for {len(labels)} motions")
        self._names = own or [f"{path.stem}-{index:06}" for index in range(len(labels))]
        self.traits = Traits(layout=layout, coordinates=coordinates, class_names=names)

    def items(self) -> list[Item]:
        return [Item(name, index) for index, name in enumerate(self._names)]

    def fetch(self, item: Item) -> bytes:
        return b""

    def parse(self, item: Item, data: bytes) -> Recording:
        motions = _loaded(self.location)["motions"]
        first, last = self._bounds[item.place]
        motion = motions[item.place, :last] if motions.ndim == 4 else motions[first:last]
        motion = as_float32(motion)
        check_motion(motion)
        setup, camera, subject = (self._ids[key][item.place] for key in ("setups", "cameras", "subjects"))
        return Recording(
            name=item.name,
            label=self._labels[item.place],
            setup=setup,
            camera=camera,
            subject=subject,
            replication=None,
            num_frames=len(motion),
            num_bodies=1,
            motion=motion,
        )

    def files(self) -> list[Path]:
        return [Path(self.location)]


def _loaded(location: str) -> dict[str, np.ndarray]:
    return _loaded_at(location, _written_at(location))


def _written_at(location: str) -> int:
    """Return when a file was last written, so that a cache never holds an older one."""
    try:
        return Path(location).stat().st_mtime_ns
    except OSError as error:
        raise UserError(f"{location}: cannot be read ({error.strerror})") from None


@functools.lru_cache(maxsize=2)
def _loaded_at(location: str, _written: int) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(location) as packed:
            size = sum(member.file_size for member in packed.infolist())
        if size > MAX_BYTES:
            raise UserError(f"{location}: {size} bytes unpacked; at most {MAX_BYTES} are accepted in one .npz")
        with np.load(location, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, MemoryError) as error:
        raise UserError(f"{location}: cannot be read as a .npz of plain arrays ({error})") from None


def _whole(path: Path, arrays: dict[str, np.ndarray], key: str, count: int | None) -> list[int]:
    array = arrays[key]
    if array.ndim != 1 or array.dtype.kind not in "iu" or (count is not None and len(array) != count):
        size = "" if count is None else f"{count} "
        raise UserError(f"{path}: {key} is {array.dtype} {array.shape}; expected {size}whole numbers")
    return [int(value) for value in array]


def _bounds(path: Path, arrays: dict[str, np.ndarray]) -> list[tuple[int, int]]:
    """Return the first and the last frame + 1 of every motion."""
    motions = arrays["motions"]
    if motions.ndim == 4:
        count, frames = motions.shape[:2]
        lengths = _whole(path, arrays, "lengths", count) if "lengths" in arrays else [frames] * count
        if not all(0 < length <= frames for length in lengths):
            raise UserError(f"{path}: lengths from {min(lengths)} to {max(lengths)}; 1 to {frames} are possible")
        return [(0, length) for length in lengths]
    if "lengths" not in arrays:
        raise UserError(f"{path}: motions of shape {motions.shape} lie end to end and need `lengths` (N,)")
    lengths = _whole(path, arrays, "lengths", None)
    if min(lengths, default=0) < 1 or sum(lengths) != len(motions):
        raise UserError(f"{path}: lengths must be positive and add up to the {len(motions)} frames of motions")
    ends = np.cumsum(lengths).tolist()
    return [(end - length, end) for end, length in zip(ends, lengths, strict=True)]


def _labels(path: Path, arrays: dict[str, np.ndarray], count: int) -> tuple[list[int], tuple[str, ...]]:
    """Return 0-based labels and the class names, from numbers or from names."""
    labels = arrays["labels"]
    if labels.shape != (count,):
        raise UserError(f"{path}: labels has shape {labels.shape}, expected ({count},): one for each motion")
    given = tuple(str(name) for name in arrays["class_names"]) if "class_names" in arrays else ()
    if labels.dtype.kind == "U":
        names = given or tuple(sorted(set(labels.tolist())))
        place: Callable[[str], int] = {name: number for number, name in enumerate(names)}.__getitem__
        try:
            return [place(label) for label in labels.tolist()], names
        except KeyError as error:
            raise UserError(f"{path}: the label {error} is not among class_names") from None
    numbers = _whole(path, arrays, "labels", count)
    names = given or numbered(min(max(numbers), 9_999) + 1)
    if min(numbers) < 0 or max(numbers) >= len(names):
        raise UserError(f"{path}: labels from {min(numbers)} to {max(numbers)} for {len(names)} classes from 0")
    return numbers, names


def _ids(path: Path, arrays: dict[str, np.ndarray], key: str, count: int) -> list[int] | list[None]:
    return _whole(path, arrays, key, count) if key in arrays else [None] * count
