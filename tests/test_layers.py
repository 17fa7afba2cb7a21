"""The architecture's one rule: a module imports only from layers above its own."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "kgan_ray"
LAYERS = [
    ["settings", "skeleton"],
    ["model", "data", "metrics.scores", "tracking", "cluster"],
    [
        "training.losses",
        "training.memory",
        "training.distributed",
        "training.gan",
        "training.timing",
        "training.checkpoint",
        "metrics",
        "visual",
    ],
    ["training.evaluation", "training.loop", "training.scaling"],
    ["training.launch"],
    ["tuning"],
    ["cli", "metrics.demonstration"],
]
VERBS = {path.stem for path in PACKAGE.glob("*.py")} - {
    "__init__",
    "settings",
    "skeleton",
    "tracking",
    "cluster",
    "cli",
}


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield ".".join(parts).removesuffix(".__init__"), ast.parse(path.read_text(encoding="utf-8"))


def layer(module):
    """The longest entry of LAYERS that the module lies in; verbs come last."""
    if module.split(".")[0] in VERBS:
        return len(LAYERS)
    matches = [
        (len(name), number)
        for number, names in enumerate(LAYERS)
        for name in names
        if module == name or module.startswith(name + ".")
    ]
    return max(matches)[1] if matches else 0


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_a_module_imports_only_from_its_own_layer_or_above():
    wrong = [
        f"{module} imports {name}"
        for module, tree in modules()
        for name in imports(tree)
        if name.startswith("kgan_ray.") and layer(name.removeprefix("kgan_ray.")) > layer(module)
    ]
    assert not wrong


def test_no_module_imports_a_verb():
    wrong = [
        f"{module} imports {name}"
        for module, tree in modules()
        for name in imports(tree)
        if name.startswith("kgan_ray.") and name.split(".")[1] in VERBS
    ]
    assert not wrong


def test_mlflow_and_ray_train_are_imported_in_one_place():
    """But for the file that MLflow itself runs to load a model."""
    for library, owners in (("mlflow", {"tracking", "registered_model"}), ("ray.train", {"training.launch"})):
        importers = {
            module
            for module, tree in modules()
            if any(name == library or name.startswith(library + ".") for name in imports(tree))
        }
        assert importers == owners, library
