"""Skeletons by name: the built-in layouts, those of two persons, and a user's own from YAML."""

from __future__ import annotations

from pathlib import Path

import yaml

from kgan_ray.layouts import TABLES
from kgan_ray.settings import UserError, validated
from kgan_ray.skeleton import LAYOUTS, SkeletonLayout, pair_layout
from kgan_ray.text import close_match

PAIRS = {pair.name: pair for pair in map(pair_layout, LAYOUTS.values())}
BUILT_IN = LAYOUTS | PAIRS


def named_layout(wanted: str) -> SkeletonLayout:
    """Return the layout that `--layout` names: a built-in one, or a YAML file. Raises UserError if it is neither."""
    if wanted in BUILT_IN:
        return BUILT_IN[wanted]
    if not Path(wanted).suffix and not Path(wanted).exists():
        raise UserError(
            f"--layout {wanted}: neither a file nor a layout.{close_match(wanted, BUILT_IN)} Known: {', '.join(LAYOUTS)}; "
            f"of two persons {', '.join(PAIRS)}"
        )
    return read_layout(wanted)


def layouts_of(num_joints: int, coordinates: int) -> list[str]:
    """Name the built-in layouts of so many joints; in space, those that are found in images do not count."""
    return [
        name
        for name, layout in BUILT_IN.items()
        if layout.num_joints == num_joints and (coordinates == 2 or not TABLES[name.removesuffix("x2")].flat)
    ]


def read_layout(path: str | Path) -> SkeletonLayout:
    """Read a user's layout from YAML: `name`, `joints` (names, or their number), `bones` (pairs), `root`.

    In `bones`, `root` and `always_kept` a joint is its name or its 0-based index. Raises UserError.
    """
    try:
        tree = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read as YAML ({str(error).splitlines()[0]})") from None
    if not isinstance(tree, dict) or "joints" not in tree:
        raise UserError(f"{path}: a layout needs the keys name, joints, bones and root")
    if isinstance(tree["joints"], int):
        tree["joints"] = [f"joint_{i}" for i in range(tree["joints"])]
    names = {str(name): index for index, name in enumerate(tree["joints"])}

    def index(joint: object) -> object:
        if isinstance(joint, str) and joint not in names:
            raise UserError(f"{path}: unknown joint {joint!r}.{close_match(joint, names)}")
        return names[joint] if isinstance(joint, str) else joint

    for key in ("bones", "always_kept"):
        if isinstance(tree.get(key), list):
            tree[key] = [[index(j) for j in item] if isinstance(item, list) else index(item) for item in tree[key]]
    tree["root"] = index(tree.get("root"))
    tree.setdefault("name", Path(path).stem)
    return validated(SkeletonLayout, tree, where=str(path))
