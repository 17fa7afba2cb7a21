"""What the verbs share: the line of progress."""

import sys
from contextlib import suppress

from kgan_ray.cli import ProgressLine


def test_a_terminal_shows_one_line_that_renews_itself_and_ends(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with suppress(KeyboardInterrupt), ProgressLine() as line:
        line("1 of 2")
        line("2 of 2")
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "\r\033[K1 of 2\r\033[K2 of 2\n"


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
