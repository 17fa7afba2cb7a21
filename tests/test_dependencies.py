"""What is imported is declared in pyproject.toml, and what is declared is imported, or a reason stands here."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OURS = {"kgan_ray", "helpers", "lab"}
NOT_IMPORTED = {
    "cmaes": "Optuna imports it for CMA-ES",
    "isal": "archive.py imports it by name, where the machine has it",
    "boto3": "`ray up` and the autoscaler on AWS",
    "google-api-python-client": "`ray up` and the autoscaler on Google Cloud",
    "pytest-timeout": "a plugin of pytest",
    "pytest-xdist": "a plugin of pytest, for .ci/run",
    "ruff": "a program",
    "mypy": "a program",
    "types-pyyaml": "types that mypy reads",
    "pandas-stubs": "types that mypy reads",
    "moto": "runs as a process: python -m moto.server",
}


def imported(folder):
    """Return the packages that the modules below a folder import: their distributions, and a module that does."""
    distributions, users = packages_distributions(), {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            for package in {name.partition(".")[0] for name in names} - OURS - sys.stdlib_module_names:
                users[package] = ({plain(name) for name in distributions.get(package, [package])}, path.name)
    return users


def declared(*extras):
    """Return the names of what is installed, with these extras."""
    lines = [
        *PROJECT["dependencies"],
        *(line for name in extras for line in PROJECT["optional-dependencies"][name]),
    ]
    return {plain(re.match(r"[\w-]+", line)[0]) for line in lines}


def plain(name):
    """Return a distribution's name as packaging compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize(
    ("folder", "extras"), [("kgan_ray", ["inception"]), ("tests", ["dev"])], ids=["kgan_ray", "tests"]
)
def test_everything_imported_is_declared(folder, extras):
    allowed = declared(*extras)
    assert {package: user for package, (names, user) in imported(folder).items() if not names & allowed} == {}


def test_everything_declared_is_imported_or_explained():
    users = {**imported("kgan_ray"), **imported("tests")}
    used = {name for names, _ in users.values() for name in names}
    assert declared(*PROJECT["optional-dependencies"]) - used == set(NOT_IMPORTED)


def test_the_tested_versions_of_everything_declared_are_pinned():
    """But for the extras that no test needs."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {plain(line.partition("==")[0]) for line in lines if "==" in line}
    assert declared("dev", "aws") - pinned == set()
