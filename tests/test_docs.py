"""Options, settings, files and modules that pages, docstrings and messages name are there."""

import ast
import contextlib
import importlib
import io
import re
from pathlib import Path

import pytest

from helpers.commands import ROOT
from helpers.settings_page import PAGE, page
from kgan_ray.__main__ import VERBS
from kgan_ray.settings import Settings, flatten

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
SPACES = sorted((ROOT / "search_spaces").glob("*.yaml"))
SOURCES = sorted((ROOT / "kgan_ray").rglob("*.py"))
PROGRAMS = sorted([*SOURCES, *(ROOT / "tests").rglob("*.py")])  # some of them read options without being a verb
OPTION = re.compile(r"(?<![\w-])(?<!var\()--[a-z][a-z-]*+(?!:\s*#)")  # not the variables of a style sheet
OTHERS = {
    "ray": "--address --generate --no-wait --port --remote-port --min-nodes",
    "mlflow": "--backend-store-uri --app-name --host --allowed-hosts --artifacts-destination",
    "aws": "--role-name --policy-name --policy-document",
    "py-spy": "--pid",
    "slurm": "--job-name --nodes --ntasks-per-node --gpus --gpus-per-node --cpus-per-task --mem --time --signal --requeue --open-mode --batch",
    "nvidia-smi": "--query-gpu --format",
    "git": "--always --dirty --tags",
    "docker, pip, apt-get": "--no-install-recommends --no-cache-dir --shm-size",
}
SETTINGS = flatten(Settings())
SECTIONS = "|".join(sorted({name.partition(".")[0] for name in SETTINGS if "." in name}))


def name_of(path):
    return str(path.relative_to(ROOT))


def strings(tree):
    """Yield every text that a module holds, its docstrings among them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.fixture(scope="module")
def options():
    """Every option that one of our parsers knows."""
    known = set(" ".join(OTHERS.values()).split())
    for verb in VERBS:
        known |= set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", help_of(verb), re.MULTILINE))
    for path in PROGRAMS:
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "add_argument":
                known |= {argument.value for argument in call.args if isinstance(argument, ast.Constant)}
    return known


def help_of(verb):
    with contextlib.redirect_stdout(io.StringIO()) as printed, pytest.raises(SystemExit):
        importlib.import_module(f"kgan_ray.{verb}").main(["--help"])
    return printed.getvalue()


@pytest.mark.parametrize("path", [*PAGES, *SPACES], ids=name_of)
def test_pages_name_options_that_exist(path, options):
    assert set(OPTION.findall(path.read_text(encoding="utf-8"))) - options == set()


def test_the_page_of_settings_is_what_their_comments_say():
    assert PAGE.read_text(encoding="utf-8") == page(), "run python tests/helpers/settings_page.py"


def test_the_table_of_messages_quotes_the_source():
    table = (ROOT / "docs" / "debugging.md").read_text(encoding="utf-8").partition("## What a message means")[2]
    messages = re.findall(r"^\| `(.*?)` \|", table.partition("\n## ")[0], re.MULTILINE)
    sources = "".join(path.read_text(encoding="utf-8") for path in SOURCES)
    assert len(messages) > 10
    assert [message for message in messages if message not in sources] == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_docstrings_helps_and_messages_name_options_that_exist(path, options):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    named = {option for text in strings(tree) for option in OPTION.findall(text) if not option.endswith("-")}
    assert named - options == set()


@pytest.mark.parametrize("path", [*PAGES, *SPACES], ids=name_of)
def test_pages_name_settings_that_exist(path):
    named = re.findall(rf"(?<![\w./])(?:{SECTIONS})\.[a-z_0-9]+(?![\w(])", path.read_text(encoding="utf-8"))
    assert set(named) - SETTINGS.keys() == set()


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_pages_name_files_and_modules_that_exist(path):
    text = path.read_text(encoding="utf-8")
    links = [path.parent / link for link in re.findall(r"\]\((?!http)([^)#]+)\)", text)]
    files = [ROOT / name for name in re.findall(r"\b(?:kgan_ray|tests|search_spaces|docs)/[\w/]+\.\w+", text)]
    assert [str(file) for file in [*links, *files] if not file.exists()] == []
    assert [name for name in re.findall(r"\bkgan_ray(?:\.\w+)+", text) if not is_module_or_in_one(name)] == []


def is_module_or_in_one(name):
    """Say whether a dotted name is a module, a package, or a name that one of them holds."""
    place, _, member = (ROOT / name.replace(".", "/")).as_posix().rpartition("/")
    if (ROOT / f"{name.replace('.', '/')}.py").exists() or (ROOT / name.replace(".", "/")).is_dir():
        return True
    source = next(
        (ROOT / file for file in (f"{place}.py", f"{place}/__init__.py") if (ROOT / file).exists()), None
    )
    return source is not None and re.search(rf"\b{member}\b", source.read_text(encoding="utf-8")) is not None


@pytest.mark.parametrize("name", ["kgan_ray.tuning", "kgan_ray.model.Generator", "kgan_ray.settings.override"])
def test_modules_and_their_names_are_told_from_what_does_not_exist(name):
    assert is_module_or_in_one(name)
    assert not is_module_or_in_one(f"{name}_of_old")


ARCHITECTURE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "row", re.findall(r"^\| an? [^|]+\|.*$", ARCHITECTURE, re.MULTILINE), ids=lambda row: row[2:40]
)
def test_what_a_newcomer_is_told_to_look_for_is_in_the_file_named_after_it(row):
    """Every name in backticks stands in one of the row's files."""
    files = re.findall(r"`((?:kgan_ray|tests)/[\w/]+\.py)`", row)
    text = "".join((ROOT / file).read_text(encoding="utf-8") for file in files if (ROOT / file).exists())
    names = {name.rpartition(".")[2] for name in re.findall(r"`([A-Za-z_][\w.]*)`", row)}
    assert len(files) >= 2
    assert {name for name in names if not re.search(rf"\b{name}\b", text)} == set()


def test_the_tree_on_the_page_has_every_room():
    rooms = {path.parent.relative_to(ROOT / "kgan_ray") for path in SOURCES} - {Path()}
    assert {room.name for room in rooms} == set(re.findall(r"^ +(\w+)/ ", ARCHITECTURE, re.MULTILINE))
