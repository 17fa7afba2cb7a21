"""The architecture's rules: imports run down only, rooms of one floor know nothing of each other, no room is overfull."""

import ast
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "kgan_ray"
VERBS = ("prepare", "train", "tune", "evaluate", "generate", "render", "report", "status", "benchmark")

# From the ground up. A module belongs to the longest entry that is its name or a package that holds it; it may import
# from the floors before its own and from its own entry. docs/architecture.md says what each is for.
FLOORS = [
    ["text", "presets", "limits", "layouts"],
    ["validation"],
    ["resources"],
    ["settings"],
    ["devices"],
    ["storage", "skeleton", "classes", "cluster"],
    ["publishing", "named_layouts", "cli"],
    ["ownership"],
    ["run_folder"],
    ["model", "tracking"],
    ["data"],
    ["data.synthetic"],
    ["data.sources", "metrics", "visual"],
    ["data.prepare"],
    ["training"],
    ["tuning.question"],
    ["tuning.plan", "tuning.state"],
    ["tuning.search"],
    ["tuning.request"],
    ["tuning.running", "tuning.answer"],
    ["tuning.report"],
    ["tuning.service"],
    ["benchmarks"],
    [*VERBS, "__main__"],
]
PLACES = {room: (floor, room) for floor, rooms in enumerate(FLOORS) for room in rooms}
OWNERS = {"mlflow": ["tracking", "tuning.report.registered_model"], "ray.train": ["training.launch", "data.lanes"]}
MOST_LINES = 300
MOST_MODULES = 16  # of a room; the root, which holds the verbs, aside


def modules():
    """(dotted name within the package, syntax tree) of every module; a package that only says what it is for is none."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if path.name != "__init__.py" or imports(tree):
            yield ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"), tree


def imports(tree):
    """Every module, and everything in it, that the tree's import statements name."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def place(module):
    """(floor, entry of FLOORS) of a module, by the longest entry; None for a module that no entry holds."""
    held = [name for name in PLACES if module == name or module.startswith(name + ".")]
    return PLACES[max(held, key=len)] if held else None


def ours():
    """(module, what it imports of the package) for every import of ours."""
    for module, tree in modules():
        for name in imports(tree):
            if name.startswith("kgan_ray."):
                yield module, name.removeprefix("kgan_ray.")


def test_every_module_has_its_floor():
    assert [module for module, _ in modules() if module != "__init__" and place(module) is None] == []


def test_imports_run_down_and_rooms_of_one_floor_are_untied():
    wrong = []
    for module, name in ours():
        mine, other = place(module), place(name)
        if mine and other and mine[1] != other[1] and other[0] >= mine[0]:
            wrong.append(f"{module} imports {name}")
    assert wrong == []


def test_no_module_imports_a_verb():
    assert [f"{module} imports {name}" for module, name in ours() if name.split(".")[0] in VERBS] == []


def test_mlflow_and_ray_train_are_imported_in_one_place():
    """But for the file that MLflow itself runs to load a model."""
    for library, owners in OWNERS.items():
        for module, tree in modules():
            if any(name == library or name.startswith(library + ".") for name in imports(tree)):
                assert any(module == owner or module.startswith(owner + ".") for owner in owners), (
                    library,
                    module,
                )


def test_no_module_is_two_ideas_long():
    lengths = {
        str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")
    }
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}


def test_no_test_module_imports_another():
    """What two of them need is in tests/helpers."""
    wrong = [
        f"{path.name} imports {name}"
        for path in sorted(TESTS.rglob("*.py"))
        for name in imports(ast.parse(path.read_text(encoding="utf-8")))
        if name.startswith("test_") or name.split(".")[0] == "conftest"
    ]
    assert wrong == []


def test_no_room_is_overfull():
    rooms = Counter(path.parent for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
    del rooms[PACKAGE]
    assert {room.name: count for room, count in rooms.items() if count > MOST_MODULES} == {}
