"""What pydantic's errors become: one line that a user can act on."""

from __future__ import annotations

import json
from typing import get_args

from pydantic import BaseModel, ValidationError

from kgan_ray.text import close_match


def explained(model: type[BaseModel], error: ValidationError) -> str:
    """Say in one line what the first error is: the place, the value, what is accepted, a close match."""
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"])
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
    return f"{name}: found {value}, {first['msg'][0].lower()}{first['msg'][1:]}.{close}"


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
