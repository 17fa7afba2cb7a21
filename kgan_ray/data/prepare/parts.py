"""Writing one Parquet part: read a few hundred recordings, write them, report one line each. Runs in workers."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace

import pyarrow.parquet as pq

from kgan_ray.data.recording import Recording, RejectedRecording
from kgan_ray.data.rows import part_schema, row_digest, rows_table
from kgan_ray.data.sources.source import Item, Source
from kgan_ray.data.splits import hashed_fold
from kgan_ray.data.windows import value_ranges
from kgan_ray.storage import StorePath, reading

ROWS_PER_PART = 512
ROWS_PER_GROUP = 128  # what a training worker reads at a time
# Read while one is parsed: storage is often slower than we are.
FILES_AHEAD = 8
VALUES_PER_GROUP = 32 << 20  # 128 MB: fewer rows where recordings are absurdly long


@dataclass
class RowReport:
    """What became of one recording: its row's facts, or the reason why it was set aside."""

    name: str
    source: int
    file_sha256: str | None = None  # of its own file, where it has one
    reason: str | None = None
    label: int = -1
    setup: int | None = None
    camera: int | None = None
    subject: int | None = None
    num_bodies: int = 0
    fold: int = 0
    cut_frames: int = 0
    joined_tracks: int = 0
    digest: str = ""  # SHA-256 of the row's content
    ranges: dict[str, tuple[float, float]] | None = None
    pair_frames: int = 0
    pair_ranges: dict[str, tuple[float, float]] | None = None


@dataclass(frozen=True)
class PartJob:
    """The recordings of one part, in the order of its rows: (index of the source, item)."""

    number: int
    items: Sequence[tuple[int, Item]]

    @property
    def file(self) -> str:
        return f"motions/part-{self.number:05}.parquet"


def write_part(job: PartJob, sources: Sequence[Source], folder: StorePath) -> tuple[list[int], list[RowReport]]:
    """Write a part into a dataset folder. Returns the rows of its row groups (none: no file) and the reports."""
    traits = sources[0].traits
    schema = part_schema(traits.layout, traits.coordinates)
    reports: list[RowReport] = []
    groups: list[int] = []
    kept: list[Recording] = []
    writer: pq.ParquetWriter | None = None
    file = folder / job.file

    def flush() -> None:
        nonlocal writer
        if not kept:
            return
        if writer is None:
            writer = pq.ParquetWriter(
                file.path, schema, filesystem=file.filesystem, compression="zstd", use_dictionary=False
            )
        writer.write_table(rows_table(kept, schema), row_group_size=ROWS_PER_GROUP)
        groups.append(len(kept))
        kept.clear()

    try:
        for number, item, fetched in _fetched_ahead(job, sources):
            report = RowReport(name=item.name, source=number)
            reports.append(report)
            try:
                with reading(sources[number].location):
                    data, report.file_sha256 = fetched.result()
                    recording = sources[number].read(item, data)
            except RejectedRecording as error:
                report.reason = str(error)
                continue
            _fill(report, recording, traits.layout.root)
            kept.append(replace(recording, fold=report.fold))
            if len(kept) == ROWS_PER_GROUP or sum(row.motion.size for row in kept) > VALUES_PER_GROUP:
                flush()
        flush()
    finally:
        if writer is not None:
            writer.close()
    return groups, reports


def _fetched_ahead(
    job: PartJob, sources: Sequence[Source]
) -> Iterator[tuple[int, Item, Future[tuple[bytes, str | None]]]]:
    """Yield each recording with its bytes, and their SHA-256 if it is a file of its own; a thread reads a few ahead."""

    def fetch(number: int, item: Item) -> tuple[bytes, str | None]:
        data = sources[number].fetch(item)
        return data, hashlib.sha256(data).hexdigest() if sources[number].is_folder else None

    ahead: deque[tuple[int, Item, Future[tuple[bytes, str | None]]]] = deque()
    with ThreadPoolExecutor(1) as reader:
        for number, item in job.items:
            ahead.append((number, item, reader.submit(fetch, number, item)))
            if len(ahead) > FILES_AHEAD:
                yield ahead.popleft()
        yield from ahead


def _fill(report: RowReport, recording: Recording, root: int) -> None:
    report.name = recording.name
    report.label = recording.label
    report.setup, report.camera, report.subject = recording.setup, recording.camera, recording.subject
    report.num_bodies = recording.num_bodies
    report.fold = hashed_fold(recording.name) if recording.fold is None else recording.fold
    report.cut_frames, report.joined_tracks = recording.cut_frames, recording.joined_tracks
    report.digest = row_digest(recording)
    report.ranges = value_ranges(recording.motion, root)
    report.pair_frames = recording.pair_frames
    if report.pair_frames:
        report.pair_ranges = value_ranges(recording.pair, root)


def as_row(groups: list[int], reports: list[RowReport]) -> dict[str, object]:
    """Return plain values, for the way from a worker to the driver."""
    return {"groups": groups, "reports": [asdict(report) for report in reports]}
