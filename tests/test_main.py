"""`kgan_ray` alone: the list of verbs, a verb's run, a verb that does not exist; and what is shipped beside the code."""

import subprocess
import sys

import pytest
from setuptools import Distribution

from helpers.commands import ROOT
from kgan_ray.__main__ import VERBS, first_line, main
from kgan_ray.settings import UserError


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_the_verbs_are_listed_a_line_each(capsys, arguments):
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    assert [line.split()[0] for line in lines] == list(VERBS)
    assert "status    Say what a sweep is doing" in lines[VERBS.index("status")]


def test_every_module_that_ends_as_a_verb_is_listed():
    verbs = [path.stem for path in (ROOT / "kgan_ray").glob("*.py") if "    run_verb(main)" in path.read_text()]
    assert sorted(verbs) == sorted(["__main__", *VERBS])
    assert all(first_line(verb).endswith(".") for verb in VERBS)


def test_the_list_needs_no_heavy_import():
    code = "import sys; from kgan_ray.__main__ import main; main([]); print({'torch', 'ray', 'mlflow'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ran.stdout.splitlines()[-1] == "set()"


def test_a_verb_is_run_with_its_options(capsys):
    assert main(["train", "--preset", "demo", "--set", "training.steps=7", "--dry-run"]) == 0
    assert "training.steps=7" in capsys.readouterr().out


def test_an_unknown_verb_is_one_line():
    with pytest.raises(UserError, match=r"unknown verb 'tun'\. Did you mean tune\?"):
        main(["tun"])
    ran = subprocess.run([sys.executable, "-m", "kgan_ray", "tun"], capture_output=True, text=True, cwd=ROOT)
    assert (ran.returncode, ran.stdout, len(ran.stderr.splitlines())) == (2, "", 1)


def test_a_wheel_holds_the_console_script_and_all_that_lies_beside_the_code(tmp_path, monkeypatch):
    """Setuptools says so, asked in the way in which it builds a wheel."""
    monkeypatch.chdir(ROOT)
    wheel = Distribution()
    wheel.parse_config_files()
    wheel.include_package_data = False  # with it, setuptools would leave a folder of its own here
    build = wheel.get_command_obj("build_py")
    build.build_lib = str(tmp_path)
    build.ensure_finalized()
    data = {file for package, _, _, files in build.data_files if package == "kgan_ray" for file in files}
    beside = {
        str(path.relative_to(ROOT / "kgan_ray"))
        for path in (ROOT / "kgan_ray").rglob("*.*")
        if path.suffix not in (".py", ".pyc")
    }
    assert "py.typed" in data
    assert data == beside
    assert wheel.entry_points == {"console_scripts": ["kgan_ray = kgan_ray.__main__:run"]}
