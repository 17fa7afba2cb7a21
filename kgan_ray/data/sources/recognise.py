"""Find out what kind of source a path is."""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePosixPath

from kgan_ray.data.sources.archive import list_names
from kgan_ray.data.sources.ntu_files import SkeletonFiles
from kgan_ray.data.sources.own_arrays import OwnArrays
from kgan_ray.data.sources.published_arrays import PublishedArrays
from kgan_ray.data.sources.source import Source
from kgan_ray.data.sources.ucla_files import UclaFiles
from kgan_ray.settings import UserError
from kgan_ray.skeleton import SkeletonLayout

ACCEPTED = (
    "a folder or zip of .skeleton files (NTU RGB+D) or of .json files (NW-UCLA), "
    "a *_data.npy with its *_label.pkl (Kinetic-GAN) or a folder of them, or a .npz of motions and labels"
)


def find_sources(path: str, layout: SkeletonLayout | None = None) -> list[Source]:
    """Find the source or sources at a path. Raises UserError, naming what is accepted, for anything else."""
    place = Path(path)
    if not place.exists():
        raise UserError(f"{path}: does not exist")
    if place.is_dir() or place.suffix == ".zip":
        return _many(place, layout)
    if place.suffix == ".skeleton":
        return [SkeletonFiles(place)]
    if place.suffix == ".npy":
        return [PublishedArrays(place, layout)]
    if place.suffix == ".npz":
        return [OwnArrays(place, layout)]
    raise UserError(f"{path}: not a source that is known; accepted are {ACCEPTED}")


def _many(place: Path, layout: SkeletonLayout | None) -> list[Source]:
    names = list_names(place)
    if not names:
        raise UserError(f"{place}: there is nothing in it; accepted are {ACCEPTED}")
    suffixes = Counter(PurePosixPath(name).suffix for name in names)
    arrays = sorted(name for name in names if name.endswith("_data.npy")) if place.is_dir() else []
    bundles = sorted(name for name in names if name.endswith(".npz")) if place.is_dir() else []
    kinds = [
        kind
        for kind, files in ((".skeleton", suffixes[".skeleton"]), (".json", suffixes[".json"]), (".npy", arrays))
        if files
    ] + ([".npz"] if bundles else [])
    if len(kinds) > 1:
        raise UserError(f"{place}: holds {' and '.join(kinds)} files; give the sources one by one")
    if not kinds:
        common = ", ".join(suffix or "no suffix" for suffix, _ in suffixes.most_common(3))
        raise UserError(f"{place}: its files ({common}) are not known; accepted are {ACCEPTED}")
    if kinds == [".skeleton"]:
        return [SkeletonFiles(place)]
    if kinds == [".json"]:
        return [UclaFiles(place)]
    if arrays:
        return [PublishedArrays(place / name, layout) for name in arrays]
    return [OwnArrays(place / name, layout) for name in bundles]
