"""MLflow: the record of every run. The only module that imports mlflow (but for the one that MLflow runs itself).

Every process writes through `Run`, which knows its own id and touches no global state, so that several
trials, threads and restarts write side by side. Continuing a run doubles nothing: a step that is already
recorded is left out, and a parameter keeps its first value.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlparse

from filelock import FileLock

from kgan_ray.data.storage import AnyPath
from kgan_ray.settings import TrackingSettings, UserError, refuse_password

if TYPE_CHECKING:
    from mlflow import MlflowClient

Item = TypeVar("Item")

PARENT_TAG = "mlflow.parentRunId"
_SQLITE = "sqlite:///"
_PARAMS_PER_CALL = 100  # MLflow's own limits
_METRICS_PER_CALL = 1000
_PARAM_LENGTH = 6000
_TAG_LENGTH = 8000
_DIGEST_LENGTH = 36
_VIEW_KEY = "kgan_ray"
_VIEW_TAG = f"mlflow.sharedViewState.{_VIEW_KEY}"


def tracking_uri(settings: TrackingSettings, results: AnyPath) -> str:
    """Where the record is kept: the setting, else $MLFLOW_TRACKING_URI, else a SQLite file in `results`.

    Raises UserError for an address that MLflow does not know, and where `results` cannot hold that file.
    """
    uri = settings.uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        if not isinstance(results, Path):
            raise UserError(
                f"--results {results}: MLflow's database cannot lie there; set $MLFLOW_TRACKING_URI to a server's address"
            )
        uri = f"{_SQLITE}{results.resolve()}/mlflow.db"
    refuse_password(
        uri,
        where="tracking.uri",
        instead="give it as $MLFLOW_TRACKING_PASSWORD to a server, or in ~/.pgpass or ~/.my.cnf to a database",
    )
    scheme = urlparse(uri).scheme
    if scheme not in ("sqlite", "http", "https", "postgresql", "mysql", "mssql", "databricks"):
        raise UserError(
            f"tracking.uri: found {uri!r}; accepted are sqlite:///FILE, the http(s):// address of an MLflow "
            "server, or a postgresql:// or mysql:// database"
        )
    return uri


def is_local_file(uri: str) -> bool:
    """Whether only this machine can reach the record."""
    return uri.startswith("sqlite:")


def prepare_store(uri: str) -> None:
    """Create or migrate the record's database. Call it before several processes open the record.

    Two commands may do so at once: on a file of this machine one waits for the other.

    Raises:
        UserError: no record can be reached or made there.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    lock: AbstractContextManager[object] = nullcontext()
    if is_local_file(uri):
        file = _sqlite_file(uri)
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{file}.lock")
    try:
        with lock:
            _client(uri).search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"tracking.uri: no MLflow record can be opened at {uri}: {reason}") from None


def ui_command(uri: str, experiment: str) -> str:
    """The exact shell command that opens the experiment's runs in a browser, and, for a local record, the address.

    The address says that these are training runs: MLflow's page would open on chat traces, of which there are none.
    """
    found = _client(uri).get_experiment_by_name(experiment)
    page = f"/#/experiments/{found.experiment_id}/runs?workflowType=machine_learning" if found else ""
    if found and _VIEW_TAG in found.tags:
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
    client = _client(uri)
    client.set_experiment_tag(_experiment_id(client, uri, experiment), _VIEW_TAG, json.dumps(view))


class Run:
    """One MLflow run, written by hand. `start_run` makes them."""

    def __init__(self, client: MlflowClient, run_id: str, *, continued: bool) -> None:
        self.id = run_id
        self._client = client
        self._continued = continued
        self._last_step: dict[str, int] = {}  # per metric: what an earlier process recorded, or we did

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Record the metrics at `step`; whatever is recorded for that step or a later one stays as it is."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        new = [Metric(key, float(value), now, step) for key, value in metrics.items() if self._is_new(key, step)]
        for part in _parts(new, _METRICS_PER_CALL):
            self._client.log_batch(self.id, metrics=part)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record the parameters; one that the run already has keeps its value."""
        from mlflow.entities import Param

        known = self._client.get_run(self.id).data.params if self._continued and params else {}
        new = [Param(key, str(value)[:_PARAM_LENGTH]) for key, value in params.items() if key not in known]
        for part in _parts(new, _PARAMS_PER_CALL):
            self._client.log_batch(self.id, params=part)

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set the tags, over earlier ones of the same name."""
        from mlflow.entities import RunTag

        new = [RunTag(key, value) for key, value in _shortened(tags).items()]
        for part in _parts(new, _PARAMS_PER_CALL):
            self._client.log_batch(self.id, tags=part)

    def log_artifact(self, path: str | Path, folder: str | None = None) -> None:
        """Store a file, or a folder with all that is in it, under the run's `folder`."""
        path = Path(path)
        if path.is_dir():
            self._client.log_artifacts(self.id, str(path), folder)
        else:
            self._client.log_artifact(self.id, str(path), folder)

    def log_dataset(self, name: str, digest: str, source: str) -> None:
        """Name the data that the run was trained on, so that runs can be found and compared by it.

        `digest` is the dataset's content hash, `source` its path or URI; logged again, it is there once.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag

        data = Dataset(name, digest[:_DIGEST_LENGTH], "local", json.dumps({"uri": source}))
        self._client.log_inputs(self.id, [DatasetInput(data, [InputTag("mlflow.data.context", "training")])])

    def finish(self, status: str = "FINISHED") -> None:
        """End the run; `status` is FINISHED, FAILED or KILLED. Starting it again by its id reopens it."""
        self._client.set_terminated(self.id, status)

    def _is_new(self, key: str, step: int) -> bool:
        if key not in self._last_step:
            history = self._client.get_metric_history(self.id, key) if self._continued else []
            self._last_step[key] = max((point.step for point in history), default=-1)
        if step <= self._last_step[key]:
            return False
        self._last_step[key] = step
        return True


def start_run(
    uri: str,
    *,
    experiment: str,
    name: str,
    parent_id: str | None = None,
    run_id: str | None = None,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
) -> Run:
    """Start a run of `experiment` (made where missing), or continue the run `run_id`.

    Args:
        uri: as `tracking_uri` names it.
        parent_id: the run that this one is listed under.

    Raises:
        UserError: `run_id` is not in the record.
    """
    from mlflow.exceptions import MlflowException

    client = _client(uri)
    if run_id is None:
        all_tags = {"mlflow.user": os.environ.get("USER", "kgan_ray"), **(tags or {})}
        if parent_id:
            all_tags[PARENT_TAG] = parent_id
        # With its tags at once: a run without them, left by a kill in between, would never be found again.
        created = client.create_run(
            _experiment_id(client, uri, experiment), tags=_shortened(all_tags), run_name=name
        )
        run = Run(client, created.info.run_id, continued=False)
    else:
        try:
            client.update_run(run_id, status="RUNNING")
        except MlflowException as error:
            raise UserError(f"the MLflow record at {uri} has no run {run_id}: {error}") from None
        run = Run(client, run_id, continued=True)
        run.set_tags(tags or {})
    run.log_params(params or {})
    return run


def end_run(uri: str, run_id: str, status: str, tags: Mapping[str, Any]) -> None:
    """Tag a run and end it, in as few calls as there can be: on SQLite each takes 10 ms. `status` as in `Run.finish`."""
    run = Run(_client(uri), run_id, continued=True)
    run.set_tags(tags)
    run.finish(status)


def tag_run(uri: str, run_id: str, tags: Mapping[str, Any]) -> None:
    """Set tags of a run, ended or not."""
    Run(_client(uri), run_id, continued=True).set_tags(tags)


def log_text(uri: str, run_id: str, text: str, file: str) -> None:
    """Store a text as an artifact of a run, ended or not."""
    _client(uri).log_text(run_id, text, file)


def find_run(uri: str, *, experiment: str, tags: Mapping[str, str]) -> str | None:
    """The id of the experiment's first run that carries all of these tags, or None."""
    client = _client(uri)
    if (uri, experiment) not in _experiments and client.get_experiment_by_name(experiment) is None:
        return None
    query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    runs = client.search_runs(
        [_experiment_id(client, uri, experiment)], query, max_results=1, order_by=["attributes.start_time ASC"]
    )
    return runs[0].info.run_id if runs else None


def register_model(
    uri: str, run_id: str, name: str, checkpoint: str, tags: Mapping[str, str], shape: Sequence[int]
) -> int:
    """Store a checkpoint with a run as a model that `mlflow.pyfunc` loads, and make it the newest version of `name`.

    `shape` is a motion's (C, T, V). See `kgan_ray.registered_model`; returns the version's number.
    """
    import mlflow
    import numpy as np
    from mlflow.exceptions import MlflowException
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec

    client = _client(uri)
    signature = ModelSignature(
        inputs=Schema([ColSpec("long", "label")]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, *shape))]),
        params=ParamSchema([ParamSpec("seed", "long", 0), ParamSpec("truncation", "double", 1.0)]),
    )
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # that no example was given: it would be generated for nothing
        folder = Path(scratch) / "model"
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(Path(__file__).parent / "registered_model.py"),
            artifacts={"checkpoint": checkpoint},
            signature=signature,
            pip_requirements=[f"kgan_ray=={version('kgan_ray')}"],
        )
        client.log_artifacts(run_id, str(folder), "model")
    with suppress(MlflowException):  # it is there already
        client.create_registered_model(name)
    source = f"{client.get_run(run_id).info.artifact_uri}/model"
    return int(client.create_model_version(name, source, run_id, tags=dict(tags)).version)


def discard_run(uri: str, run_id: str) -> None:
    """Move a run to the record's trash."""
    _client(uri).delete_run(run_id)


def metric_history(uri: str, run_id: str, keys: Iterable[str]) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of each of the metrics that the run has, by step."""
    client = _client(uri)
    history = {key: client.get_metric_history(run_id, key) for key in keys}
    return {
        key: sorted((point.step, point.value) for point in points) for key, points in history.items() if points
    }


def _shortened(tags: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(value)[:_TAG_LENGTH] for key, value in tags.items()}


def _parts(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))


_clients: dict[str, MlflowClient] = {}  # one a process and address: a client costs a database connection
_experiments: dict[tuple[str, str], str] = {}  # (address, name) to id, once looked up


def _client(uri: str) -> MlflowClient:
    if uri not in _clients:
        _silence()
        from mlflow import MlflowClient

        _silence()  # again: importing mlflow sets its own levels
        _clients[uri] = MlflowClient(tracking_uri=uri)
    return _clients[uri]


def _silence() -> None:
    """No migration log, no look for a git executable, no usage statistics sent home."""
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines a run on a server
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _experiment_id(client: MlflowClient, uri: str, name: str) -> str:
    """The experiment's id; it is made where it is missing, and restored where it was deleted."""
    if (uri, name) not in _experiments:
        _experiments[uri, name] = _found_or_made(client, uri, name)
    return _experiments[uri, name]


def _found_or_made(client: MlflowClient, uri: str, name: str) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, _artifact_location(uri, name))
        except MlflowException:  # another process was first
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def _artifact_location(uri: str, experiment: str) -> str | None:
    """Beside the SQLite file, not in the folder we happen to run in; a server knows its own place."""
    if not is_local_file(uri):
        return None
    folder = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in experiment)
    return (_sqlite_file(uri).parent / "mlartifacts" / folder).as_uri()


def _sqlite_file(uri: str) -> Path:
    return Path(uri.removeprefix(_SQLITE)).resolve()
