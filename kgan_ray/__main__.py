"""List the verbs, or run one: `kgan_ray tune ...` does what `python -m kgan_ray.tune ...` does."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from kgan_ray.cli import run_verb
from kgan_ray.settings import UserError
from kgan_ray.text import close_match

VERBS = ("prepare", "train", "tune", "evaluate", "generate", "render", "report", "status", "benchmark")


def main(arguments: Sequence[str] | None = None) -> int:
    verb, *options = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if verb in ("-h", "--help"):
        print("kgan_ray VERB [options]; `kgan_ray VERB --help` shows a verb's options.\n")
        print("\n".join(f"{name:10}{first_line(name)}" for name in VERBS))
        return 0
    if verb not in VERBS:
        raise UserError(f"unknown verb {verb!r}.{close_match(verb, VERBS)} Known: {', '.join(VERBS)}")
    code: int = importlib.import_module(f"kgan_ray.{verb}").main(options)
    return code


def first_line(verb: str) -> str:
    """Return the first line of the verb's docstring, read from its source: importing it takes a second."""
    source = Path(__file__).with_name(f"{verb}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def run() -> None:
    """Run `main` on the command line's arguments and exit; the console script `kgan_ray`."""
    run_verb(main)


if __name__ == "__main__":
    run()
