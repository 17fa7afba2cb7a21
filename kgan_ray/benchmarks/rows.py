"""What the verb benchmark prints: rows, and the parts that they belong to. It imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PARTS = ("training", "sampling", "loading", "evaluation", "presets", "reading", "workers", "gpu")
USUAL_PARTS = PARTS[:4]


@dataclass(frozen=True)
class Row:
    """One measured figure."""

    what: str
    value: float
    unit: str = ""
    name: str = ""  # what a script reads it by; "" = no script does
    scale: float = 1.0  # of the unit, in the plain unit that a script reads

    def line(self) -> str:
        """Lay it out as a line of the table."""
        return f"{self.what:<48}{self.value:>12.4g} {self.unit}"


def by_name(rows: Sequence[Row]) -> dict[str, float]:
    """Return what a script reads: named rows alone, shares and memory in plain units."""
    return {row.name: row.value * row.scale for row in rows if row.name}
