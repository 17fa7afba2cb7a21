"""Datasets as `python -m kgan_ray.prepare` and Python users make them, and the demo's, which others make on first use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kgan_ray.data.dataset import Dataset
from kgan_ray.data.prepare.ingest import Progress, ingest
from kgan_ray.data.prepare.manifest import Column, common_traits
from kgan_ray.data.sources.demo import DemoSource, write_demo_files
from kgan_ray.data.sources.ntu import read_missing_list
from kgan_ray.data.sources.ntu_files import SkeletonFiles
from kgan_ray.data.sources.recognise import find_sources
from kgan_ray.data.sources.source import Source
from kgan_ray.data.sources.units import check_units
from kgan_ray.named_layouts import named_layout
from kgan_ray.settings import UserError
from kgan_ray.storage import StorePath

DEMO_FOLDER = Path("datasets/demo")


@dataclass(frozen=True)
class Demo:
    """Synthetic motion in place of recordings. With a folder `skeleton_files`, it is written there and read back."""

    num_sequences: int = 2000
    seed: int = 0
    skeleton_files: Path | None = None


@dataclass(frozen=True)
class PreparedDataset:
    """A dataset, and whether it was made now: the same sources and options are not prepared twice."""

    dataset: Dataset
    is_new: bool


def prepare_dataset(
    sources: Sequence[str] | Demo,
    output: str | Path | StorePath,
    *,
    layout: str | None = None,
    scale: tuple[float, ...] | None = None,
    split: str | None = None,
    missing_list: str | None = None,
    train_ids: Mapping[Column, Sequence[int]] | None = None,
    min_per_class: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> PreparedDataset:
    """Turn recordings into a dataset folder, which appears whole or not at all.

    Args:
        sources: folders, zips and files of recordings of one kind, which are joined; or the demo's.
        output: the dataset's folder or URI.
        layout: whose joints the arrays hold: a built-in layout's name, or a YAML file.
        scale: metres a unit, one factor for all axes or one for each; None = the recordings are in metres.
        split: "hash" (every fifth recording tests, by its name), "none" (all train and test), or one of several that a
            source has of its own; None = the published one, the source's own, or else by hash.
        missing_list: a file that names recordings to leave out, as NTU's authors list them.
        train_ids: of a column, the ids that train, in place of the sources' own split.
        min_per_class: refuse classes with fewer sequences; None = 2, or 0 where the classes are published.
        force: replace a different dataset.
        progress: told how far it is, a line at a time.
        say: told what each source was taken for, a line each.

    Raises UserError for sources that are none or do not go together, and where a folder holds something else.
    """
    readers = _demo_sources(sources) if isinstance(sources, Demo) else _sources(sources, layout, scale, split)
    if not isinstance(sources, Demo):
        lines = [
            f"{one.location}: {'; '.join(filter(None, (one.description, one.left_aside)))}" for one in readers
        ]
        for line in [*lines, *check_units(readers)]:
            say(line)
    dataset, is_new = ingest(
        readers,
        output,
        options={name: value for name, value in (("scale", scale), ("split", split)) if value is not None},
        leave_out=read_missing_list(missing_list) if missing_list else frozenset(),
        train_ids={column: tuple(sorted(set(ids))) for column, ids in (train_ids or {}).items()},
        min_per_class=min_per_class,
        force=force,
        progress=progress,
    )
    return PreparedDataset(dataset, is_new)


def demo_dataset(folder: str | Path, demo: Demo = Demo()) -> Dataset:
    """Open the dataset of synthetic motion in `folder`, made unless it is there. Raises UserError."""
    return prepare_dataset(demo, folder).dataset


def open_dataset(path: str | None, say: Callable[[str], None] = print) -> Dataset:
    """Open the dataset that settings name by `data.path`; None = the demo's, made on first use."""
    if path is not None:
        return Dataset.open(path)
    say(f"no --data given: using the demo data set of synthetic motion in {DEMO_FOLDER}")
    return demo_dataset(DEMO_FOLDER)


def _sources(
    paths: Sequence[str], layout_name: str | None, scale: tuple[float, ...] | None, split: str | None
) -> list[Source]:
    layout = named_layout(layout_name) if layout_name else None
    sources = [source for path in paths for source in find_sources(path, layout)]
    for source in sources:
        if layout is not None and source.traits.layout != layout:
            raise UserError(
                f"--layout {layout_name}: {source.location} has the skeleton {source.traits.layout.name}"
            )
        if split is not None and split not in (choices := ("hash", "none", *source.own_splits)):
            raise UserError(f"--split {split}: {source.location} has the choice of {', '.join(choices)}")
        source.scale, source.split = scale, split
    common_traits(sources)  # refuse a wrong mixture before anything is read
    return sources


def _demo_sources(demo: Demo) -> list[Source]:
    if demo.skeleton_files is None:
        return [DemoSource(demo.seed, demo.num_sequences)]
    write_demo_files(demo.skeleton_files, seed=demo.seed, num_sequences=demo.num_sequences)
    return [SkeletonFiles(demo.skeleton_files)]
