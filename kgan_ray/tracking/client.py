"""The process's connection to the record: a local file or a server, silent, and with errors that a user understands."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast
from urllib.parse import unquote

from kgan_ray.settings import UserError
from kgan_ray.storage import StoreError, describe

if TYPE_CHECKING:
    from mlflow import MlflowClient

Answer = TypeVar("Answer")

_SQLITE = "sqlite:///"
# MLflow's codes for a record that fails; with any other it has answered.
_FAILURES = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "UNAUTHENTICATED", "PERMISSION_DENIED")
# Another process writes to the SQLite file, and nothing of ours was written. MLflow has waited 20 s each time; on a crowded
# machine a process may not get to the end of what it writes for longer.
_LOCKED, _TRIES = "database is locked", 15
_clients: dict[str, MlflowClient] = {}  # one a process and address: a client costs a database connection


def client_of(uri: str) -> MlflowClient:
    """Return the process's client of that record, made on first use.

    Its methods raise StoreError where the record fails, MlflowException where it answers that something cannot be.
    Raises UserError where a SQLite file is gone: MLflow would make an empty one in its place.
    """
    if uri not in _clients and is_local_file(uri) and not sqlite_file(uri).exists():
        raise UserError(
            f"{sqlite_file(uri)}: the MLflow record is not there (any more); bring it back, or its folder"
        )
    return cast("MlflowClient", _Answering(open_client(uri), uri))


def open_client(uri: str) -> MlflowClient:
    """Return MLflow's own client, which makes a database where there is none and raises whatever it meets."""
    if uri not in _clients:
        _silence()
        from mlflow import MlflowClient

        _silence()  # again: importing mlflow sets its own levels
        _clients[uri] = MlflowClient(tracking_uri=uri)
    return _clients[uri]


def _silence() -> None:
    """Have MLflow log no migration and no error that it raises, look for no git, and send no usage statistics home."""
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines a run on a server
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


class _Answering:
    """An MlflowClient whose failures are one line: the server that is gone, the database or the disk that is full."""

    def __init__(self, client: MlflowClient, uri: str) -> None:
        self._client, self._uri = client, uri

    def __getattr__(self, name: str) -> Callable[..., object]:
        return partial(self._answer, getattr(self._client, name))

    def _answer(self, method: Callable[..., Answer], *args: object, **kwargs: object) -> Answer:
        from mlflow.exceptions import MlflowException

        for _ in range(_TRIES):
            try:
                return method(*args, **kwargs)
            except MlflowException as error:
                # A database's own words, which SQLAlchemy and MLflow hide behind theirs.
                of_database = getattr(error.__cause__, "orig", None)
                if error.error_code not in _FAILURES and not (of_database and error.error_code == "BAD_REQUEST"):
                    raise
                reason = describe(of_database or error)
                if "Max retries exceeded" in reason:  # urllib3 tells its whole story, the cause last
                    reason = reason.rsplit(": ", 1)[-1].strip("\"')")
            except OSError as error:
                reason = describe(error)
            if reason != _LOCKED:
                break
        raise StoreError(f"the MLflow record at {self._uri} fails ({reason})")


def is_local_file(uri: str) -> bool:
    """Return whether only this machine can reach the record."""
    return uri.startswith("sqlite:")


def sqlite_uri(file: Path) -> str:
    """Return the address of a database, in which % and ? mean something."""
    return _SQLITE + str(file).replace("%", "%25").replace("?", "%3F")


def sqlite_file(uri: str) -> Path:
    """Return the database that such an address names."""
    return Path(unquote(uri.removeprefix(_SQLITE))).expanduser().resolve()
