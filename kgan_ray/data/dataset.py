"""A dataset folder as `prepare` writes it: `manifest.json` and `motions/part-*.parquet`.

Content before form: the content hash covers rows, classes and layout, not how they are cut into files.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError

from kgan_ray.data.splits import BENCHMARKS, NOT_GIVEN, SplitRule, split_rows
from kgan_ray.settings import DataSettings, UserError
from kgan_ray.skeleton import SkeletonLayout
from kgan_ray.storage import StorePath, describe
from kgan_ray.validation import FrozenModel

if TYPE_CHECKING:
    from kgan_ray.data.loading import MotionTensors
    from kgan_ray.data.view import DataView

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
REJECTED = "rejected.jsonl"
# So many parts are written or read by the process that needs them: starting Ray's tasks would take longer.
FEW_PARTS = 8


class SourceRecord(FrozenModel):
    """Where recordings came from."""

    kind: str
    location: str
    sha256: str
    # Of file names, sizes and times: it tells quickly that nothing changed.
    fingerprint: str


class SplitCounts(FrozenModel):
    train: int
    test: int


class Counts(FrozenModel):
    """How many recordings there are."""

    read: int
    kept: int
    rejected: int
    second_body: int  # kept recordings in which a second body was seen
    cut_frames: int = 0  # empty frames around kept recordings, which were left out
    joined_tracks: int = 0  # kept recordings in which a person changed the tracking id
    per_class: Mapping[str, int]
    per_benchmark: Mapping[str, SplitCounts]


class Pairs(FrozenModel):
    """The recordings that `data.bodies=2` trains on: two bodies seen together, in a class where most are so."""

    labels: tuple[int, ...]  # the classes
    dropped: int  # recordings of these classes in which two are never seen together
    per_benchmark: Mapping[str, SplitCounts]
    ranges: Mapping[str, Mapping[str, tuple[float, float]]]  # as a manifest's, of both bodies


class Part(FrozenModel):
    """One Parquet file and the rows of each of its row groups."""

    file: str
    row_groups: tuple[int, ...]


class Manifest(FrozenModel):
    """Everything that is known of a dataset without opening its rows."""

    format_version: int = FORMAT_VERSION
    layout: SkeletonLayout
    coordinates: int
    class_names: tuple[str, ...]
    content_hash: str
    splits: Mapping[str, SplitRule]
    counts: Counts
    ranges: Mapping[str, Mapping[str, tuple[float, float]]]  # [benchmark][centre], metres, training split
    pairs: Pairs | None = None  # None = prepared before pairs were counted
    parts: tuple[Part, ...]
    sources: tuple[SourceRecord, ...]
    options: Mapping[str, Any]  # of prepare, as far as they shape the content


class HeldMotions(Protocol):
    """Motions of a dataset that need not be read any more."""

    def motions(self, view: DataView, split: str, rows: slice, window: str) -> MotionTensors | None:
        """Return these rows of a split, or None where they are not among those that are held."""


class Dataset:
    """An opened dataset. Cheap to open and to send: it holds the manifest, and the `ids` of its rows once they are read.

    `held` are the motions that a sweep or Ray Train has read for this process.
    """

    def __init__(self, folder: StorePath, manifest: Manifest, held: HeldMotions | None = None) -> None:
        self.folder = folder
        self.manifest = manifest
        self.held = held

    @classmethod
    def open(cls, path: str | Path | StorePath) -> Dataset:
        """Open a folder or URI. Raises UserError if there is nothing, no dataset, or one of a newer format."""
        folder = StorePath(path).absolute()
        try:
            data = (folder / MANIFEST).read_bytes()
        except FileNotFoundError:
            raise UserError(
                f"{folder}: no dataset here (no {MANIFEST}); `python -m kgan_ray.prepare` makes one"
            ) from None
        except OSError as error:
            raise UserError(f"{folder}: cannot be opened ({describe(error)})") from None
        return cls(folder, parse_manifest(data, str(folder / MANIFEST)))

    @property
    def path(self) -> str:
        """Return the folder, absolute, as settings hold it."""
        return str(self.folder)

    @property
    def hash(self) -> str:
        """Name the content by 16 hexadecimal digits, everywhere: in runs, in caches, in reports."""
        return self.manifest.content_hash[:16]

    @property
    def layout(self) -> SkeletonLayout:
        return self.manifest.layout

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.manifest.class_names

    def view(self, data: DataSettings) -> DataView:
        """Bind the dataset to data settings. Raises UserError for a benchmark that this dataset does not have."""
        from kgan_ray.data.view import DataView  # with torch, which `prepare` and its workers do without

        self.split_counts(data)
        return DataView(self, data)

    def split_counts(self, data: DataSettings) -> SplitCounts:
        """Return how many recordings train and test. Raises UserError, naming the benchmarks that work, unless both do."""
        counts = self.pairs.per_benchmark if data.bodies == 2 else self.manifest.counts.per_benchmark
        works = [name for name in BENCHMARKS if name in counts and counts[name].train and counts[name].test]
        split = counts.get(data.benchmark)
        if split is None or data.benchmark not in works:
            rows = f"{split.train} training and {split.test} test rows" if split else "no such split"
            of_two = " of two bodies" if data.bodies == 2 else ""
            raise UserError(
                f"data.benchmark={data.benchmark}: {self.path} has {rows}{of_two} for it; "
                f"these work: {', '.join(works) or 'none'}"
            )
        return split

    @property
    def pairs(self) -> Pairs:
        """Return what is known of recordings of two bodies. Raises UserError for a dataset that has none."""
        pairs = self.manifest.pairs
        if pairs is None:
            raise UserError(
                f"data.bodies=2: {self.path} was prepared before second bodies were counted; prepare it again with --force"
            )
        if not pairs.labels:
            raise UserError(f"data.bodies=2: {self.path} has no class of which most recordings show two bodies")
        return pairs

    def pair_labels(self, bodies: int) -> tuple[int, ...] | None:
        """Return the classes that motions of so many bodies have; None = all of the dataset's."""
        return self.pairs.labels if bodies == 2 else None

    def rows_of(self, benchmark: str, split: str, *, bodies: int = 1) -> np.ndarray:
        """Return the indices of a split's rows, in file order."""
        return split_rows(benchmark, split, self.manifest.splits, self.ids, self.pair_labels(bodies))

    @property
    def id_columns(self) -> list[str]:
        """Name the columns of whole numbers that loading needs."""
        by_fold = any(rule.column == "fold" for rule in self.manifest.splits.values())
        later = ["fold"] * by_fold + ["pair_frames"] * (self.manifest.pairs is not None)
        return ["label", "setup", "camera", "subject", "num_frames", *later]

    @functools.cached_property
    def ids(self) -> dict[str, np.ndarray]:
        """Read the `id_columns`, as int64 (n,); -1 where a row has none."""
        columns = self.id_columns
        tables = []
        for part in self.manifest.parts:
            with self.reading(part) as file:
                tables.append(
                    pq.read_table(file.path, columns=columns, filesystem=file.filesystem, partitioning=None)
                )
        table = pa.concat_tables(tables)
        return {name: table[name].fill_null(NOT_GIVEN).to_numpy().astype(np.int64) for name in columns}

    @contextlib.contextmanager
    def reading(self, part: Part) -> Iterator[StorePath]:
        """Give a part's file to read; turn the errors of a lost or damaged one into a UserError."""
        file = self.folder / part.file
        try:
            yield file
        except (OSError, pa.ArrowInvalid) as error:
            raise UserError(f"{file}: missing or damaged ({describe(error)})") from None

    def holding(self, held: HeldMotions) -> Dataset:
        """Return the same dataset, whose motions are taken from `held` where they are there."""
        dataset = copy.copy(self)
        dataset.held = held
        return dataset


def parse_manifest(data: bytes, where: str) -> Manifest:
    """Parse a manifest. Raises UserError for what is none, and for one of a newer format."""
    try:
        version = _Version.model_validate_json(data).format_version
        if version > FORMAT_VERSION:
            raise UserError(
                f"{where}: format version {version}; this kgan_ray reads up to {FORMAT_VERSION}: please update it"
            )
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{where}: not a manifest of prepare's ({name}: {first['msg']})") from None


class _Version(BaseModel):
    """The one key that a manifest of any version has."""

    format_version: int
