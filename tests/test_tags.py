"""The table of MLflow tags: it names all of them and where each is set, and nobody sets another."""

import ast
import re
from pathlib import Path

from kgan_ray.tracking.tags import Tag

PACKAGE = Path(__file__).parents[1] / "kgan_ray"
SOURCES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path.read_text(encoding="utf-8")
    for path in PACKAGE.rglob("*.py")
}


def table() -> dict[str, list[str]]:
    """Return the rooms in which each tag of the table is set."""
    lines = [line for line in Tag.__doc__.splitlines() if line.strip().startswith("|")][2:]
    cells = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    return {name: re.split(r",\s*", rooms) for name, _, _, rooms in cells}


def test_the_table_names_every_tag():
    assert list(table()) == [tag.name for tag in Tag]


def test_every_tag_is_set_where_the_table_says():
    for name, rooms in table().items():
        for room in rooms:
            users = [
                module
                for module, text in SOURCES.items()
                if re.search(rf"\bTag\.{name}\b", text) and (module + ".").startswith(room + ".")
            ]
            assert users, f"{name} is not set in {room}"


def test_no_tag_is_set_by_a_name_of_its_own():
    named = []
    for module, text in SOURCES.items():
        for call in (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)):
            setters = [call.args[0]] if getattr(call.func, "attr", "") == "set_tags" and call.args else []
            setters += [keyword.value for keyword in call.keywords if keyword.arg == "tags"]
            keys = [key for setter in setters if isinstance(setter, ast.Dict) for key in setter.keys]
            named += [f"{module}: {key.value}" for key in keys if isinstance(key, ast.Constant)]
    assert named == []
