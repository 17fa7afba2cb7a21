"""Which rows of a dataset train and which test: a benchmark is a filter, never a copy."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from kgan_ray.validation import FrozenModel

BENCHMARKS = ("xsub", "xview", "xset", "own", "all")
NOT_GIVEN = -1  # stands for a null setup, camera or subject in arrays of ids


class SplitRule(FrozenModel):
    """Rows whose `column` is one of `train` are for training, all others that have a value there for testing."""

    column: Literal["setup", "camera", "subject", "fold"]
    train: tuple[int, ...]


BY_FOLD = SplitRule(column="fold", train=(0,))


def hashed_fold(name: str) -> int:
    """Return the fold of a recording whose source knows no split: 1 for every fifth name by its hash, else 0."""
    return int(hashlib.sha256(f"fold of {name}".encode()).digest()[0] % 5 == 0)


def holds_out(benchmark: str, rules: Mapping[str, SplitRule]) -> bool:
    """Return whether some rows only test. "all" has none such unless `prepare` split it by fold."""
    return benchmark != "all" or benchmark in rules


def split_rows(
    benchmark: str,
    split: str,
    rules: Mapping[str, SplitRule],
    ids: Mapping[str, np.ndarray],
    pair_labels: Sequence[int] | None = None,
) -> np.ndarray:
    """Return the indices of a split's rows, in file order. `ids` holds the int columns setup, camera, subject, fold (n,).

    With "all", every row is in both splits, which is the published protocol, unless `prepare` split it by fold. Empty
    where no rule is known. With `pair_labels`, only rows of these classes in which two bodies are seen together.
    """
    rows = _rows_of_rule(benchmark, split, rules, ids)
    if pair_labels is None:
        return rows
    return rows[np.isin(ids["label"][rows], pair_labels) & (ids["pair_frames"][rows] > 0)]


def _rows_of_rule(
    benchmark: str, split: str, rules: Mapping[str, SplitRule], ids: Mapping[str, np.ndarray]
) -> np.ndarray:
    if not holds_out(benchmark, rules):
        return np.arange(len(ids["subject"]))
    if benchmark not in rules:
        return np.arange(0)
    values = ids[rules[benchmark].column]
    trains = np.isin(values, rules[benchmark].train)
    return np.flatnonzero(trains if split == "train" else ~trains & (values != NOT_GIVEN))


def every_second(ids: np.ndarray, column: Literal["setup", "camera", "subject"]) -> SplitRule:
    """Make the rule for ids that come without a published split: first, third, fifth ... of the sorted ids train."""
    values = sorted({int(i) for i in ids} - {NOT_GIVEN})
    return SplitRule(column=column, train=tuple(values[::2]))
