"""From sources to a dataset folder: parts written in parallel, then the manifest.

The rows' order is fixed by a hash of their names, so it is shuffled, the same everywhere, and independent of
how many workers wrote them. A dataset appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import orjson

from kgan_ray.data.dataset import MANIFEST, Dataset, Manifest, SourceRecord
from kgan_ray.data.prepare.manifest import WrittenParts, common_traits, summarise, write_manifest
from kgan_ray.data.prepare.parts import ROWS_PER_PART, PartJob, RowReport
from kgan_ray.data.prepare.workers import written_parts
from kgan_ray.data.sources.source import Item, Source, file_sha256, list_sha256
from kgan_ray.publishing import flush, whole_folder
from kgan_ray.settings import UserError
from kgan_ray.storage import StorePath, describe, reading, told

Progress = Callable[[str], None]


def ingest(
    sources: Sequence[Source],
    folder: str | Path | StorePath,
    *,
    options: Mapping[str, object] | None = None,
    leave_out: frozenset[str] = frozenset(),
    train_ids: Mapping[str, tuple[int, ...]] | None = None,
    min_per_class: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> tuple[Dataset, bool]:
    """Write a dataset folder; returns it, and whether there was anything to do.

    `options` are recorded, and together with the sources they decide whether an existing folder is the same.
    `leave_out` names recordings to set aside unread. `train_ids` ({"subject": (1, 3)}) replaces the sources' own
    rule of a split. `min_per_class`: fewer sequences of a class are refused; by default 2 where the classes are
    the user's own and 0 where a published list names them. Raises UserError.
    """
    folder = StorePath(folder)
    options = {**(options or {}), "min_per_class": min_per_class, "train_ids": train_ids or {}}
    options["leave_out"] = _digest(sorted(leave_out)) if leave_out else None
    options = orjson.loads(orjson.dumps(options))
    with reading(folder):
        existing = _existing_dataset(folder, force=force)
    if existing is not None and not force and _is_same(existing.manifest, sources, options):
        return existing, False
    if existing is not None and not force:
        raise UserError(f"{folder}: holds a dataset of other sources or options; --force replaces it")

    jobs, left_out = _plan(sources, leave_out)
    with (
        told(lambda error: f"{folder}: cannot be written: {describe(error)}; nothing was kept of it"),
        whole_folder(folder, MANIFEST) as unfinished,
    ):
        (unfinished / "motions").mkdir()
        hashes = _FileHashes(sources)
        parts: dict[str, list[int]] = {}
        reports: list[RowReport] = []
        for job, groups, job_reports in _run(jobs, sources, unfinished, progress):
            parts[job.file] = groups
            reports += job_reports
        written = WrittenParts(
            parts=parts, reports=reports, left_out=left_out, sources=hashes.records(reports), options=options
        )
        manifest, rejected = summarise(written, sources, train_ids, min_per_class)
        write_manifest(unfinished, manifest, rejected)
    return Dataset.open(folder), True


def _existing_dataset(folder: StorePath, *, force: bool) -> Dataset | None:
    """Return the dataset that is there already, if any. Raises UserError for a folder that holds anything else.

    With `force`, a dataset that cannot be read (a newer format, a broken manifest) counts as none.
    """
    if folder.is_file():
        raise UserError(f"--output {folder}: is a file; a folder is needed")
    if (folder / MANIFEST).exists():
        try:
            return Dataset.open(folder)
        except UserError:
            if force:
                return None
            raise
    if folder.is_local and folder.children():
        raise UserError(f"--output {folder}: holds files that are no dataset; choose an empty or a new folder")
    return None


def _digest(names: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def _is_same(manifest: Manifest, sources: Sequence[Source], options: Mapping[str, object]) -> bool:
    # A layout file, or one of class names, may have changed beside the sources.
    traits = common_traits(sources)
    if (manifest.layout, manifest.class_names) != (traits.layout, traits.class_names):
        return False
    if dict(manifest.options) != options or len(manifest.sources) != len(sources):
        return False
    return all(
        record.kind == source.kind
        and (record.fingerprint == source.fingerprint() or record.sha256 == source.sha256())
        for record, source in zip(manifest.sources, sources, strict=True)
    )


def _plan(sources: Sequence[Source], leave_out: frozenset[str]) -> tuple[list[PartJob], list[tuple[int, str]]]:
    """Give every recording its place in a part; return also those that were named to be left out."""
    todo: list[tuple[int, Item]] = []
    left_out: list[tuple[int, str]] = []
    home: dict[str, int] = {}
    for number, source in enumerate(sources):
        for item in source.items():
            if item.name in home:
                places = sorted({sources[home[item.name]].location, source.location})
                raise UserError(f"the name {item.name} occurs twice, in {' and '.join(places)}")
            home[item.name] = number
            if item.name in leave_out:
                left_out.append((number, item.name))
            else:
                todo.append((number, item))
    todo.sort(key=lambda entry: hashlib.sha256(entry[1].name.encode()).digest())
    jobs = [
        PartJob(number, todo[start : start + ROWS_PER_PART])
        for number, start in enumerate(range(0, len(todo), ROWS_PER_PART))
    ]
    return jobs, left_out


def _run(
    jobs: Sequence[PartJob], sources: Sequence[Source], folder: StorePath, progress: Progress | None
) -> Iterator[tuple[PartJob, list[int], list[RowReport]]]:
    """Yield every job's outcome, in order."""
    outcomes: dict[int, tuple[list[int], list[RowReport]]] = {}
    total = sum(len(job.items) for job in jobs)
    read, started = 0, time.perf_counter()
    for number, groups, reports in written_parts(jobs, sources, folder):
        outcomes[number] = groups, reports
        if groups and folder.is_local:
            flush((folder / jobs[number].file).local)  # to the disk, while others are written
        read += len(reports)
        if progress:
            rate = read / (time.perf_counter() - started)
            progress(f"{read} of {total} recordings, {rate:.0f} a second, {(total - read) / rate:.0f} s left")
    for job in jobs:
        yield job, *outcomes[job.number]


class _FileHashes:
    """SHA-256 of the sources: of single files in a thread while workers read, of folders from the workers."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self._fingerprints = [source.fingerprint() for source in sources]
        self._hashes: dict[int, str] = {}
        self._thread = threading.Thread(target=self._hash_files, daemon=True)
        self._thread.start()

    def _hash_files(self) -> None:
        for number, source in enumerate(self._sources):
            if not source.is_folder:
                with contextlib.suppress(OSError):  # then `records` meets the error again, where it is told
                    self._hashes[number] = source.sha256()

    def records(self, reports: Sequence[RowReport]) -> list[SourceRecord]:
        """Describe the sources. Raises UserError for one that changed meanwhile: what was read of it is neither old nor new."""
        self._thread.join()
        for source, before in zip(self._sources, self._fingerprints, strict=True):
            if source.fingerprint() != before:
                raise UserError(f"{source.location}: changed while it was read; nothing was kept of it")
        return [
            SourceRecord(
                kind=source.kind,
                location=source.location,
                sha256=self._of_folder(number, reports)
                if source.is_folder
                else self._hashes.get(number) or source.sha256(),
                fingerprint=self._fingerprints[number],
            )
            for number, source in enumerate(self._sources)
        ]

    def _of_folder(self, number: int, reports: Sequence[RowReport]) -> str:
        """Hash a folder from the files' hashes that the workers made; only those that none has read are read here."""
        read = {report.name: report.file_sha256 for report in reports if report.source == number}
        files = self._sources[number].files()
        return list_sha256((file.name, read.get(file.stem) or file_sha256(file)) for file in files)
