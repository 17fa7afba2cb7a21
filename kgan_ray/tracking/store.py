"""The place of the record: its address, its database, the columns of MLflow's runs table.

This package alone imports mlflow (but for the file that MLflow runs itself).
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sqlite3
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from http.client import HTTPException
from pathlib import Path
from ssl import SSLError
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.parse import urlparse
from urllib.request import urlopen

from filelock import FileLock

from kgan_ray.settings import TrackingSettings, UserError, refuse_password
from kgan_ray.storage import StorePath, describe
from kgan_ray.tracking.client import client_of, is_local_file, open_client, sqlite_file, sqlite_uri
from kgan_ray.tracking.tags import Tag

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SECONDS_TO_ANSWER = 10.0
_ARTIFACTS = "mlartifacts"  # the folder beside a SQLite file
_VIEW_KEY = Tag.VIEW.rsplit(".", 1)[-1]


def tracking_uri(settings: TrackingSettings, results: StorePath) -> str:
    """Return where the record is kept: the setting, else $MLFLOW_TRACKING_URI, else a SQLite file in `results`.

    Raises UserError for an address that MLflow does not know, and where `results` cannot hold that file.
    """
    uri = settings.uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        if not results.is_local:
            raise UserError(
                f"--results {results}: MLflow's database cannot lie there; set $MLFLOW_TRACKING_URI to a server's address"
            )
        uri = sqlite_uri(results.local.resolve() / "mlflow.db")
    refuse_password(
        uri,
        where="tracking.uri",
        instead="give it as $MLFLOW_TRACKING_PASSWORD to a server, or in ~/.pgpass or ~/.my.cnf to a database",
    )
    if is_local_file(uri) and not re.fullmatch(r"sqlite:///[^?]*[^?/]", uri):
        raise UserError(f"tracking.uri: found {uri!r}; expected sqlite:///FILE, without options")
    if uri.endswith(":memory:"):
        raise UserError(f"tracking.uri: found {uri!r}; other processes cannot write there, name a file")
    scheme = urlparse(uri).scheme
    if scheme not in ("sqlite", "http", "https", "postgresql", "mysql", "mssql", "databricks"):
        raise UserError(
            f"tracking.uri: found {uri!r}; accepted are sqlite:///FILE, the http(s):// address of an MLflow "
            "server, or a postgresql:// or mysql:// database"
        )
    return sqlite_uri(sqlite_file(uri)) if is_local_file(uri) else uri  # trials run in other folders


def prepare_store(uri: str) -> None:
    """Create or migrate the record's database. Call it before several processes open the record.

    Two commands may do so at once: on a file of this machine one waits for the other.

    Raises:
        UserError: no record can be reached or made there.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    refuse_silent_server(uri)
    lock: AbstractContextManager[object] = nullcontext()
    try:
        if is_local_file(uri):
            file = sqlite_file(uri)
            file.parent.mkdir(parents=True, exist_ok=True)
            _check_writable(file)
            lock = FileLock(f"{file}.lock")
        with lock:
            open_client(uri).search_experiments(max_results=1)
            if is_local_file(uri):
                _follow_artifacts(file)
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError, ImportError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"tracking.uri: no MLflow record can be opened at {uri}: {reason}") from None


def refuse_silent_server(uri: str) -> None:
    """Raise UserError where the record is on a server and nothing answers there: MLflow would try for minutes, wordlessly."""
    if urlparse(uri).scheme not in ("http", "https"):
        return
    try:
        urlopen(uri, timeout=_SECONDS_TO_ANSWER).close()
    except HTTPError:
        return  # an answer too
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        if not isinstance(reason, SSLError):  # MLflow has its own settings for certificates
            raise UserError(f"tracking.uri: no MLflow server answers at {uri} ({describe(reason)})") from None


def _check_writable(file: Path) -> None:
    """Raise sqlite3.Error or OSError at once where a database cannot be written: MLflow would try for two minutes."""
    with closing(sqlite3.connect(file, timeout=60)) as database:
        database.execute("BEGIN IMMEDIATE")


def record_now(uri: str, results: StorePath) -> str:
    """Return where a record is now: in the folder of results, if a SQLite file was moved there together with them."""
    if not is_local_file(uri) or not results.is_local or sqlite_file(uri).exists():
        return uri
    moved = results.local.resolve() / sqlite_file(uri).name
    if not moved.exists():
        return uri
    _follow_artifacts(moved)
    return sqlite_uri(moved)


def _follow_artifacts(file: Path) -> None:
    """Let a database find the artifacts that were moved with it: MLflow keeps their whole paths."""
    artifacts = file.parent / _ARTIFACTS
    if not artifacts.is_dir():
        return
    here = artifacts.as_uri()
    with closing(sqlite3.connect(file)) as database:
        places = database.execute(
            f"SELECT artifact_location FROM experiments WHERE artifact_location LIKE 'file://%/{_ARTIFACTS}/%'"
        )
        moved = {place.rsplit(f"/{_ARTIFACTS}/", 1)[0] + f"/{_ARTIFACTS}" for (place,) in places} - {here}
        if not moved:
            return
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            columns = [
                row[1]
                for row in database.execute(f"PRAGMA table_info({table})")
                if "CHAR" in row[2] or row[2] == "TEXT"
            ]
            for column in columns:
                for before in moved:
                    database.execute(
                        f'UPDATE "{table}" SET "{column}" = ? || substr("{column}", ?) WHERE "{column}" LIKE ?',
                        (here, len(before) + 1, f"{before}/%"),
                    )
        database.commit()


def ui_command(uri: str, experiment: str) -> str:
    """Return the shell command that opens the experiment's runs in a browser, and, for a local record, the address.

    The address says that these are training runs: MLflow's page would open on chat traces, of which there are none.
    """
    entry = client_of(uri).get_experiment_by_name(experiment)
    page = f"/#/experiments/{entry.experiment_id}/runs?workflowType=machine_learning" if entry else ""
    if entry and Tag.VIEW in entry.tags:
        page += f"&viewStateShareKey={_VIEW_KEY}"
    if urlparse(uri).scheme in ("http", "https"):
        return f"python -m webbrowser {shlex.quote(uri.rstrip('/') + page)}"
    return f"mlflow ui --backend-store-uri {shlex.quote(uri)}  # then open http://127.0.0.1:5000{page}"


def set_runs_view(
    uri: str,
    experiment: str,
    *,
    metrics: Sequence[str],
    params: Sequence[str],
    tags: Sequence[str],
    lowest_first: bool,
) -> None:
    """Choose the columns of the experiment's runs table, which the address of `ui_command` opens.

    MLflow by itself shows no metric and no parameter. Rows are sorted by the first metric. It is kept as MLflow's page
    keeps a view that somebody shares: as JSON in a tag of the experiment.
    """
    columns = [
        f"{kind}.`{name}`"
        for kind, names in (("metrics", metrics), ("params", params), ("tags", tags))
        for name in names
    ]
    view = {"selectedColumns": columns, "orderByKey": columns[0], "orderByAsc": lowest_first}
    client = client_of(uri)
    client.set_experiment_tag(experiment_id(client, uri, experiment), Tag.VIEW, json.dumps(view))


_experiments: dict[tuple[str, str], str] = {}  # (address, name) to id, once looked up


def is_known_experiment(client: MlflowClient, uri: str, name: str) -> bool:
    """Return whether the experiment is there already."""
    return (uri, name) in _experiments or client.get_experiment_by_name(name) is not None


def experiment_id(client: MlflowClient, uri: str, name: str) -> str:
    """Return the experiment's id; make it where it is missing, and restore it where it was deleted."""
    if (uri, name) not in _experiments:
        _experiments[uri, name] = _made_experiment(client, uri, name)
    return _experiments[uri, name]


def _made_experiment(client: MlflowClient, uri: str, name: str) -> str:
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return client.create_experiment(name, _artifact_location(uri, name))
        except MlflowException:  # another process was first
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    return str(experiment.experiment_id)


def _artifact_location(uri: str, experiment: str) -> str | None:
    """Return a folder beside the SQLite file, not the one we happen to run in; a server knows its own place."""
    if not is_local_file(uri):
        return None
    folder = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in experiment)
    return (sqlite_file(uri).parent / _ARTIFACTS / folder).as_uri()
