"""Classes of actions as people name them: on the command line and from Python."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from kgan_ray.settings import UserError
from kgan_ray.text import close_match


class Classes(Protocol):
    """What says which classes there are: a MotionSpec."""

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def class_labels(self) -> tuple[int, ...] | None:
        """Give the label of each class in the whole dataset; None where these are all of its classes."""


def class_numbers(wanted: Sequence[str] | None, classes: Classes) -> list[int]:
    """Return the 0-based numbers of classes given by name, by number or as NTU RGB+D writes them; all of them for None.

    `["walking", "3", "A023"]`, and `["walking,3"]` too. A023 is the class of label 22, for NTU counts from 1: number 22, or
    another where the classes are a part of the dataset's, as those of two persons are. Raises UserError.
    """
    names = classes.class_names
    if wanted is None:
        return list(range(len(names)))
    labels = classes.class_labels or tuple(range(len(names)))
    words = [part for word in wanted for part in ([word] if word in names else word.split(","))]
    return [_class_number(word.strip(), names, labels) for word in words]


def _class_number(word: str, names: Sequence[str], labels: Sequence[int]) -> int:
    if word in names:
        return names.index(word)
    if re.fullmatch(r"\d+", word, flags=re.ASCII) and int(word) < len(names):
        return int(word)
    if re.fullmatch(r"A\d{3}", word, flags=re.ASCII) and int(word[1:]) - 1 in labels:
        return labels.index(int(word[1:]) - 1)
    written = [f"A{label + 1:03}" for label in labels]
    is_whole = labels[-1] - labels[0] == len(labels) - 1
    raise UserError(
        f"--classes {word}: unknown class.{close_match(word, names)} Accepted are 0 to {len(names) - 1}, "
        f"names such as {names[0]!r}, and {f'{written[0]} to {written[-1]}' if is_whole else ', '.join(written)}"
    )
