"""Write docs/settings.md from the comments of the settings' own models: `python tests/helpers/settings_page.py`."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Container
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from kgan_ray.presets import PRESETS
from kgan_ray.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
HEAD = """# Settings

Every setting has a dotted name. `--set techniques.pooling=max` changes it on the command line, a search space varies it under the same name, and
every checkpoint and MLflow run holds all of them. `--preset` names a point among them, and `--dry-run` prints what comes of it all. The defaults are
the published model's. This page is made from `kgan_ray/settings.py` and its neighbours by `tests/helpers/settings_page.py`.
"""
BOUNDS = {
    "minimum": "{} or more",
    "exclusiveMinimum": "above {}",
    "maximum": "{} or less",
    "exclusiveMaximum": "below {}",
}


def page() -> str:
    """Return the page: a table for each branch of the settings, then the presets."""
    branches = {
        name: field.annotation for name, field in Settings.model_fields.items() if is_branch(field.annotation)
    }
    parts = [HEAD, table(Settings, "", leave_out=branches)]
    for name, model in branches.items():
        parts.append(f"## {name}\n\n{inspect.getdoc(model)}\n\n{table(model, f'{name}.')}")
    parts.append("## Presets\n\n" + "\n".join(preset_rows()))
    return "\n".join(parts) + "\n"


def is_branch(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def table(model: type[BaseModel], prefix: str, leave_out: Container[str] = ()) -> str:
    """Return a branch's rows: name, default, accepted values, what it does. Raises KeyError for one without a comment."""
    rows = ["| setting | default | accepted | |", "|---|---|---|---|"]
    words = comments(model)
    schema = model.model_json_schema()
    for name, field in model.model_fields.items():
        if name in leave_out:
            continue
        default = json.dumps(field.get_default(call_default_factory=True))
        rows.append(f"| `{prefix}{name}` | `{default}` | {accepted(schema['properties'][name])} | {words[name]} |")
    return "\n".join(rows) + "\n"


def comments(model: type[BaseModel]) -> dict[str, str]:
    """Return the comment of every field: the lines above it, or what stands behind it."""
    words: dict[str, str] = {}
    above: list[str] = []
    for line in inspect.getsource(model).splitlines():
        if own_line := re.fullmatch(r"    # (.*)", line):
            above.append(own_line[1])
        elif field := re.match(r"    (\w+): [^#]*(?:# (.*))?", line):
            words[field[1]] = " ".join([*above, field[2] or ""]).strip()
            above = []
    return {name: text.replace("None", "`null`") for name, text in words.items() if text}


def accepted(schema: dict[str, Any]) -> str:
    """Return in words what a property's JSON schema accepts."""
    if "anyOf" in schema:
        return ", or ".join(accepted(choice) for choice in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    kind = {
        "integer": "a whole number",
        "number": "a number",
        "string": "text",
        "boolean": "`true`, `false`",
        "array": "a list of names",
        "null": "`null`",
    }[schema["type"]]
    if kind == "a whole number" and schema.get("exclusiveMinimum") == 0:
        schema = {"minimum": 1}
    return ", ".join(
        [kind, *(words.format(f"{schema[bound]:g}") for bound, words in BOUNDS.items() if bound in schema)]
    )


def preset_rows() -> list[str]:
    """Return a line for each preset: what it changes."""
    return [
        f"- `{name}`: " + ", ".join(f"`{setting}={json.dumps(value)}`" for setting, value in changes.items())
        for name, changes in PRESETS.items()
    ]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
