"""What the verbs share: the line of progress, and how a failure ends."""

import re
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from kgan_ray.cli import ProgressLine, run_verb
from kgan_ray.settings import UserError


def test_a_terminal_shows_one_line_that_renews_itself_and_ends(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with suppress(KeyboardInterrupt), ProgressLine() as line:
        line("1 of 2")
        line("2 of 2")
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "\r\033[K1 of 2\r\033[K2 of 2\n"


def test_a_line_that_is_wider_than_the_terminal_loses_its_last_parts(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    with ProgressLine() as line:
        line("step 350/750  13.10 steps/s  0:00:31 left  fid 280")
        line("x" * 50)
    assert capsys.readouterr().err == f"\r\033[Kstep 350/750  13.10 steps/s\r\033[K{'x' * 39}\n"


def test_a_log_gets_a_line_every_ten_seconds(monkeypatch, capsys):
    now = 100.0
    monkeypatch.setattr("kgan_ray.cli.time.monotonic", lambda: now)
    with ProgressLine() as line:
        for second in range(25):
            now = 100.0 + second
            line(f"after {second} s")
    assert capsys.readouterr().err == "after 10 s\nafter 20 s\n"


def test_a_line_that_was_never_shown_leaves_nothing(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with ProgressLine():
        pass
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (UserError("seed: found x"), 2, "error: seed: found x\n"),
        (
            OSError(28, "No space left on device", "results/a.json"),
            2,
            "error: results/a.json: No space left on device\n",
        ),
        (OSError("the socket went away"), 2, "error: the socket went away\n"),
        (KeyboardInterrupt("stopped; go on with X"), 130, "stopped; go on with X\n"),
    ],
)
def test_what_lies_outside_of_the_program_ends_a_verb_with_a_line(raised, code, line, capsys):
    def main(arguments):
        raise raised

    with pytest.raises(SystemExit) as ended:
        run_verb(main)
    assert (ended.value.code, capsys.readouterr().err) == (code, line)


def test_a_bug_ends_a_verb_with_a_line_that_names_the_traceback(capsys, tmp_path, monkeypatch):
    def main(arguments):
        raise RuntimeError("shapes differ\nin many ways")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        run_verb(main)
    line = capsys.readouterr().err
    log = re.fullmatch(
        r"error: RuntimeError: shapes differ \(a bug of kgan_ray: please report it with (\S+)\)\n", line
    )
    assert ended.value.code == 1
    assert 'raise RuntimeError("shapes differ' in Path(log[1]).read_text()
