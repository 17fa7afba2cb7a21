"""The Pareto front: what nothing beats in every objective at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def pareto_front(values: Mapping[str, Sequence[float]], is_low_good: Sequence[bool]) -> list[str]:
    """The names that no other equals or beats in all objectives while beating it in one, by the first objective."""
    cost = {
        name: tuple(value if low else -value for value, low in zip(point, is_low_good, strict=True))
        for name, point in values.items()
    }
    front = [
        name
        for name, mine in cost.items()
        if not any(
            other != mine and all(o <= m for o, m in zip(other, mine, strict=True)) for other in cost.values()
        )
    ]
    return sorted(front, key=lambda name: cost[name])
