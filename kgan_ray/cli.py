"""What the verbs share: common options, and one line with exit code 2 for a mistake of the user's."""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Self

import yaml

from kgan_ray.cluster import end_politely
from kgan_ray.presets import PRESETS
from kgan_ray.settings import Settings, UserError, flatten, resolve_settings
from kgan_ray.text import described

if TYPE_CHECKING:
    from rich.console import Console

_WIDTH_OF_FILES = 150


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are UserErrors: one line, no usage block."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise UserError(f"{self.prog}: {message} (--help shows all options)")


def verb_parser(verb: str, description: str) -> Parser:
    """Make a parser for `python -m kgan_ray.<verb>`; `description` is usually the verb's docstring."""
    return Parser(
        prog=f"python -m kgan_ray.{verb}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_settings_options(parser: argparse.ArgumentParser) -> None:
    """Add --preset, --set and --dry-run; read them with `settings_of`."""
    parser.add_argument("--preset", metavar="NAME", help=f"named settings: {', '.join(PRESETS)}")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="NAME=VALUE", help="one setting"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the resolved settings and stop")


def settings_of(options: argparse.Namespace, default_preset: str | None = None) -> Settings:
    """Return the settings that --preset and --set name."""
    return resolve_settings(options.preset or default_preset, parse_overrides(options.overrides))


def parse_overrides(items: Sequence[str]) -> dict[str, object]:
    """Return `["techniques.pooling=max", "seed=3"]` as a dictionary; values are read as YAML."""
    overrides = {}
    for item in items:
        name, equals, text = item.partition("=")
        if not equals:
            raise UserError(f"--set {item}: expected NAME=VALUE, for example techniques.pooling=max")
        overrides[name.strip()] = _parse_value(text)
    return overrides


def _parse_value(text: str) -> object:
    try:
        value: object = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    if isinstance(value, str):  # YAML 1.1 reads 2e-4 as a word
        try:
            return float(value)
        except ValueError:
            return value
    return value


def print_settings(settings: Settings) -> None:
    """Print every dotted setting with its value, one a line, as --set takes them."""
    for name, value in flatten(settings).items():
        print(f"{name}={value if isinstance(value, str) else json.dumps(value)}")


class ProgressLine:
    """One line on stderr: on a terminal it renews itself, in a log it is printed every ten seconds.

    Leaving the `with` block ends the line, so that what is printed next begins on a new one.
    """

    SECONDS_BETWEEN_LINES = 10.0  # in a log

    def __enter__(self) -> Self:
        self._is_terminal = sys.stderr.isatty()
        self._is_open = False
        self._printed_at = time.monotonic()
        return self

    def __call__(self, text: str) -> None:
        """Show the text in place of the one before."""
        if self._is_terminal:
            print(f"\r\033[K{_fitting(text)}", end="", file=sys.stderr, flush=True)
            self._is_open = True
        elif time.monotonic() - self._printed_at >= self.SECONDS_BETWEEN_LINES:
            print(text, file=sys.stderr, flush=True)
            self._printed_at = time.monotonic()

    def __exit__(self, *_: object) -> None:
        if self._is_open:
            print(file=sys.stderr)
            self._is_open = False


def _fitting(text: str) -> str:
    """Leave out the last parts of a line, between double spaces, that the terminal has no room for: a wrapped line cannot be renewed."""
    width = shutil.get_terminal_size().columns - 1
    while len(text) > width and "  " in text:
        text = text.rpartition("  ")[0]
    return text[:width]


def console() -> Console:
    """Return standard output; a file or pipe gets lines wide enough for a whole table."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH_OF_FILES)


def run_verb(main: Callable[[Sequence[str] | None], int | None]) -> None:
    """Run a verb's `main(arguments)` and exit with its code: 2 after a UserError, 130 after Ctrl-C, 1 after a bug."""
    end_politely()
    logging.raiseExceptions = False  # what cannot be logged, on a full disk, is not told on the terminal either
    try:
        code = main(None) or 0
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt as interrupt:
        print(str(interrupt) or "stopped", file=sys.stderr)
        code = 130
    except BrokenPipeError:  # the reader of our output (head, less) has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except OSError as error:  # a full disk, a folder that is another user's
        print(
            f"error: {f'{error.filename}: ' if error.filename else ''}{error.strerror or error}", file=sys.stderr
        )
        code = 2
    except Exception as error:  # noqa: BLE001
        with tempfile.NamedTemporaryFile("w", prefix="kgan_ray-", suffix=".log", delete=False) as log:
            traceback.print_exc(file=log)
        print(f"error: {described(error)} (a bug of kgan_ray: please report it with {log.name})", file=sys.stderr)
        code = 1
    sys.exit(code)
