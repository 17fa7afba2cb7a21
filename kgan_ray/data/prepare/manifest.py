"""From the reports on all rows to the manifest: counts, ranges, the content hash; refusals of the whole."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import orjson

from kgan_ray.data.dataset import MANIFEST, REJECTED, Counts, Manifest, Pairs, Part, SourceRecord, SplitCounts
from kgan_ray.data.prepare.parts import RowReport
from kgan_ray.data.sources.source import Source, Traits
from kgan_ray.data.splits import BENCHMARKS, BY_FOLD, NOT_GIVEN, SplitRule, every_second, split_rows
from kgan_ray.data.windows import CENTRES
from kgan_ray.settings import UserError
from kgan_ray.storage import StorePath

Column = Literal["setup", "camera", "subject"]
Halves = dict[str, np.ndarray]  # rows by split
Ranges = dict[str, tuple[float, float]]  # by centre
COLUMN_OF: dict[str, Column] = {"xsub": "subject", "xview": "camera", "xset": "setup"}


@dataclass(frozen=True)
class WrittenParts:
    """What the workers wrote and said."""

    parts: Mapping[str, Sequence[int]]  # file -> rows of its row groups; empty = not written
    reports: Sequence[RowReport]  # in row order
    left_out: Sequence[tuple[int, str]]  # (source, name), on the list of missing skeletons
    sources: Sequence[SourceRecord]
    options: Mapping[str, object]


def summarise(
    written: WrittenParts,
    sources: Sequence[Source],
    train_ids: Mapping[str, tuple[int, ...]] | None,
    min_per_class: int | None,
) -> tuple[Manifest, list[dict[str, str]]]:
    """Return the manifest, and the lines of `rejected.jsonl`. Raises UserError where no dataset can come of it."""
    traits = common_traits(sources)
    kept = [report for report in written.reports if report.reason is None]
    rejected = _rejected(written, sources)
    if not kept:
        first = rejected[0] if rejected else {"name": "", "reason": "there is nothing to read"}
        raise UserError(
            f"{sources[0].location}: none of {len(rejected)} recordings is usable; "
            f"{first['name']}: {first['reason']}"
        )
    ids: dict[str, np.ndarray] = {
        column: np.array([_or_not_given(getattr(row, column)) for row in kept], np.int64)
        for column in (*COLUMN_OF.values(), "fold", "label", "pair_frames")
    }
    splits = _splits(traits, ids, train_ids or {}, sources[0].split)
    rows = _rows_of_benchmarks(splits, ids)
    per_class = Counter(row.label for row in kept)
    _check_classes(per_class, traits, min_per_class)
    manifest = Manifest(
        layout=traits.layout,
        coordinates=traits.coordinates,
        class_names=traits.class_names,
        content_hash=_content_hash(kept, traits),
        splits=splits,
        counts=Counts(
            read=len(written.reports) + len(written.left_out),
            kept=len(kept),
            rejected=len(rejected),
            second_body=sum(row.num_bodies > 1 for row in kept),
            cut_frames=sum(row.cut_frames for row in kept),
            joined_tracks=sum(row.joined_tracks > 0 for row in kept),
            per_class={name: per_class[label] for label, name in enumerate(traits.class_names)},
            per_benchmark=_counts(rows),
        ),
        ranges=_ranges([row.ranges for row in kept], rows),
        pairs=_pairs(kept, splits, ids),
        parts=tuple(Part(file=file, row_groups=tuple(groups)) for file, groups in written.parts.items() if groups),
        sources=tuple(written.sources),
        options=written.options,
    )
    return manifest, rejected


def common_traits(sources: Sequence[Source]) -> Traits:
    """Return what several sources have in common; their lists of classes may continue one another (NTU-60 and 120)."""
    first = sources[0].traits
    names = max((source.traits.class_names for source in sources), key=len)
    for source in sources[1:]:
        mine = source.traits
        if (mine.layout, mine.coordinates) != (first.layout, first.coordinates):
            raise UserError(
                f"{source.location}: skeleton {mine.layout.name} with {mine.coordinates} coordinates does not "
                f"go with {first.layout.name} with {first.coordinates} of {sources[0].location}"
            )
        if mine.splits != first.splits:
            raise UserError(
                f"{source.location}: another kind of data than {sources[0].location}; prepare them apart"
            )
    for source in sources:
        if names[: len(source.traits.class_names)] != source.traits.class_names:
            raise UserError(f"{source.location}: its classes are not those of the other sources")
    are_published = all(source.traits.known_classes for source in sources)
    return first.model_copy(update={"class_names": names, "known_classes": are_published})


def _rejected(written: WrittenParts, sources: Sequence[Source]) -> list[dict[str, str]]:
    rows = [(row.source, row.name, row.reason) for row in written.reports if row.reason is not None]
    rows += [(source, name, "on the list of missing skeletons") for source, name in written.left_out]
    return [
        {"name": name, "source": sources[source].location, "reason": reason}
        for source, name, reason in sorted(rows)
    ]


def _or_not_given(value: int | None) -> int:
    return NOT_GIVEN if value is None else value


def _splits(
    traits: Traits, ids: Mapping[str, np.ndarray], train_ids: Mapping[str, tuple[int, ...]], chosen: str | None
) -> dict[str, SplitRule]:
    """Return the published rules, or every second id; either gives way to the user's own choice.

    Data without a published split are split by fold also where all of them are asked for (`data.benchmark=all`): a
    classifier that is tested on what it was trained on says nothing.
    """
    splits = {
        benchmark: rule
        for benchmark, rule in (traits.splits or {}).items()
        if rule != BY_FOLD or chosen not in ("hash", "none")
    }
    is_published = any(rule.column != "fold" for rule in splits.values())
    if chosen != "none" and (chosen == "hash" or not is_published) and len(set(ids["fold"].tolist())) > 1:
        splits["all"] = BY_FOLD
    for benchmark, column in COLUMN_OF.items():
        if column in train_ids:
            unknown = set(train_ids[column]) - {int(value) for value in ids[column]}
            if unknown:
                raise UserError(f"--train-{column}s: no recording is of {column} {min(unknown)}")
            splits[benchmark] = SplitRule(column=column, train=train_ids[column])
        elif traits.splits is None and len(set(ids[column].tolist()) - {NOT_GIVEN}) > 1:
            splits[benchmark] = every_second(ids[column], column)
    return splits


def _check_classes(per_class: Counter[int], traits: Traits, min_per_class: int | None) -> None:
    """Refuse classes that cannot be learned. A part of a published data set may lack classes, so there it may."""
    needed = (0 if traits.known_classes else 2) if min_per_class is None else min_per_class
    few = [name for label, name in enumerate(traits.class_names) if per_class[label] < needed]
    if few:
        label = traits.class_names.index(few[0])
        others = f", and {len(few) - 1} more classes" if len(few) > 1 else ""
        raise UserError(
            f"class {few[0]!r} has {per_class[label]} sequence{'s' * (per_class[label] != 1)}{others}; "
            f"at least {needed} are needed (--min-per-class changes that)"
        )


def _rows_of_benchmarks(
    splits: Mapping[str, SplitRule], ids: Mapping[str, np.ndarray], pair_labels: Sequence[int] | None = None
) -> dict[str, Halves]:
    """Return the rows of both splits of every benchmark that has any."""
    rows = {
        benchmark: {split: split_rows(benchmark, split, splits, ids, pair_labels) for split in ("train", "test")}
        for benchmark in BENCHMARKS
    }
    return {benchmark: halves for benchmark, halves in rows.items() if len(halves["train"]) + len(halves["test"])}


def _counts(rows: Mapping[str, Halves]) -> dict[str, SplitCounts]:
    return {
        benchmark: SplitCounts(train=len(halves["train"]), test=len(halves["test"]))
        for benchmark, halves in rows.items()
    }


def _ranges(row_ranges: Sequence[Ranges | None], rows: Mapping[str, Halves]) -> dict[str, Ranges]:
    """Return the smallest and the largest value of each benchmark's training rows for every centring."""
    return {
        benchmark: _range_of([row_ranges[row] for row in halves["train"]]) for benchmark, halves in rows.items()
    }


def _range_of(row_ranges: Sequence[Ranges | None]) -> Ranges:
    ranges = {}
    for centre in CENTRES:
        bounds = [each[centre] for each in row_ranges if each]
        low = min((low for low, _ in bounds), default=0.0)
        high = max((high for _, high in bounds), default=0.0)
        ranges[centre] = (low, high if high > low else low + 1.0)
    return ranges


def _pairs(kept: Sequence[RowReport], splits: Mapping[str, SplitRule], ids: Mapping[str, np.ndarray]) -> Pairs:
    """Find the classes of two persons: those of which most recordings are pairs. A stray second body makes no such class."""
    count, num_pairs = (
        Counter(row.label for row in kept if row.pair_frames >= least_frames) for least_frames in (0, 1)
    )
    labels = tuple(sorted(label for label in num_pairs if 2 * num_pairs[label] > count[label]))
    rows = _rows_of_benchmarks(splits, ids, labels)
    return Pairs(
        labels=labels,
        dropped=sum(count[label] - num_pairs[label] for label in labels),
        per_benchmark=_counts(rows),
        ranges=_ranges([row.pair_ranges for row in kept], rows),
    )


def _content_hash(kept: Sequence[RowReport], traits: Traits) -> str:
    digest = hashlib.sha256(traits.layout.model_dump_json().encode())
    digest.update("\n".join(traits.class_names).encode())
    for row in kept:
        digest.update(bytes.fromhex(row.digest))
    return digest.hexdigest()


def write_manifest(folder: StorePath, manifest: Manifest, rejected: Sequence[dict[str, str]]) -> None:
    """Write `rejected.jsonl`, where there is anything to say, and last the manifest."""
    if rejected:
        (folder / REJECTED).write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rejected))
    text = orjson.dumps(manifest.model_dump(mode="json"), option=orjson.OPT_INDENT_2)
    (folder / MANIFEST).write_bytes(text + b"\n")
