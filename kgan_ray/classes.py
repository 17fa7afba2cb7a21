"""Classes of actions as people name them: on the command line and from Python."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kgan_ray.settings import UserError
from kgan_ray.text import close_match


def class_numbers(wanted: Sequence[str] | None, names: Sequence[str]) -> list[int]:
    """Return the 0-based numbers of classes given by name, by number or as NTU RGB+D writes them; all of them for None.

    `["walking", "3", "A023"]`, and `["walking,3"]` too: A023 is number 22, for NTU counts from 1. Raises UserError.
    """
    if wanted is None:
        return list(range(len(names)))
    words = [part for word in wanted for part in ([word] if word in names else word.split(","))]
    return [_class_number(word.strip(), names) for word in words]


def _class_number(word: str, names: Sequence[str]) -> int:
    if word in names:
        return names.index(word)
    written = re.fullmatch(r"(?:(\d+)|A(\d{3}))", word, flags=re.ASCII)
    number = -1 if written is None else int(written[1]) if written[1] else int(written[2]) - 1
    if not 0 <= number < len(names):
        raise UserError(
            f"--classes {word}: unknown class.{close_match(word, names)} "
            f"Accepted are 0 to {len(names) - 1}, names such as {names[0]!r}, and A001 to A{len(names):03d}"
        )
    return number
