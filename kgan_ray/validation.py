"""Models that refuse what they do not know, and what pydantic's errors become: one line that a user can act on."""

from __future__ import annotations

import json
import re
from typing import get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from kgan_ray.text import close_match


class FrozenModel(BaseModel):
    """A pydantic model that cannot change and refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


# What pydantic puts behind the name of a field that takes either of several types.
_IS_OF_UNION = re.compile(r"bool|constrained-float|literal\[.*\]")


def explained(model: type[BaseModel], error: ValidationError) -> str:
    """Say in one line what the first error is: the place, the value, what is accepted, a close match."""
    first, *_ = errors = error.errors(include_url=False)
    name = ".".join(str(part) for part in first["loc"] if not _IS_OF_UNION.fullmatch(str(part)))
    if first["type"] == "extra_forbidden":
        fields = _fields_at(model, first["loc"][:-1])
        close = close_match(str(first["loc"][-1]), fields)
        return f"unknown key {name!r}.{close} Accepted: {', '.join(fields)}"
    if first["type"] == "value_error":  # one of our own validators: it names the setting itself
        return f"{name}: {first['ctx']['error']}" if name else str(first["ctx"]["error"])
    value = json.dumps(first["input"], default=str)
    if len(value) > 80:
        value = value[:77] + "..."
    close = ""
    if first["type"] == "literal_error":
        accepted = first["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        close = close_match(str(first["input"]), accepted)
    ways = [
        one["msg"]
        for one in errors
        if one["loc"][:-1] == first["loc"][:-1] and _IS_OF_UNION.fullmatch(str(one["loc"][-1]))
    ]
    message = "; or ".join(way[0].lower() + way[1:] for way in ways or [first["msg"]])
    return f"{name}: found {value}, {message}.{close}"


def _fields_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Return the names of the fields of the model nested at `loc`."""
    here = model
    for part in loc:
        field = here.model_fields.get(str(part))
        if field is None:
            continue
        candidates = [field.annotation, *get_args(field.annotation)]
        here = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), here)
    return list(here.model_fields)
