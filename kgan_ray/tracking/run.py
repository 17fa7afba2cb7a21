"""One run of the record: it is started or continued, written by hand, ended, and looked up again.

Every process writes through `Run`, which knows its own id and touches no global state, so that several
trials, threads and restarts write side by side. Continuing a run doubles nothing: a step that is already
recorded is left out, and a parameter keeps its first value.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from kgan_ray.settings import UserError
from kgan_ray.tracking.client import client_of
from kgan_ray.tracking.store import experiment_id, is_known_experiment
from kgan_ray.tracking.tags import Tag

if TYPE_CHECKING:
    from mlflow import MlflowClient

Item = TypeVar("Item")

_PARAMS_PER_CALL = 100  # MLflow's own limits
_METRICS_PER_CALL = 1000
_PARAM_LENGTH = 6000
_TAG_LENGTH = 8000
_DIGEST_LENGTH = 36

_writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mlflow")  # one a process: it writes in order


class Run:
    """One MLflow run, written by hand. `start_run` makes them."""

    def __init__(self, client: MlflowClient, run_id: str, *, continued: bool) -> None:
        self.id = run_id
        self._client = client
        self._continued = continued
        self._last_step: dict[str, int] = {}  # per metric: what an earlier process recorded, or we did
        self._unwritten: list[Future[None]] = []

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Record the metrics at `step`; whatever is recorded for that step or a later one stays as it is."""
        self._write([(step, metrics)], int(time.time() * 1000))

    def log_later(self, history: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Have a thread record the metrics at each step, as `log_metrics` does.

        What the thread raises is raised here by a later call, or by `flush`.
        """
        while self._unwritten and self._unwritten[0].done():
            self._unwritten.pop(0).result()
        self._unwritten.append(_writer.submit(self._write, history, int(time.time() * 1000)))

    def flush(self) -> None:
        """Wait until all is recorded that was to be recorded later."""
        while self._unwritten:
            self._unwritten.pop(0).result()

    def log_params(self, params: Mapping[str, object]) -> None:
        """Record the parameters; one that the run already has keeps its value."""
        from mlflow.entities import Param

        recorded = self._client.get_run(self.id).data.params if self._continued and params else {}
        new = [Param(key, str(value)[:_PARAM_LENGTH]) for key, value in params.items() if key not in recorded]
        for part in _parts(new, _PARAMS_PER_CALL):
            self._client.log_batch(self.id, params=part)

    def set_tags(self, tags: Mapping[str, str]) -> None:
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

    def log_text(self, text: str, file: str) -> None:
        """Store a text as the artifact `file`."""
        self._client.log_text(self.id, text, file)

    def finish(self, status: str = "FINISHED") -> None:
        """End the run; `status` is FINISHED, FAILED or KILLED. Starting it again by its id reopens it."""
        self._client.set_terminated(self.id, status)

    def _write(self, history: Sequence[tuple[int, Mapping[str, float]]], now: int) -> None:
        from mlflow.entities import Metric

        new = [
            Metric(key, float(value), now, step)
            for step, metrics in history
            for key, value in metrics.items()
            if self._is_new(key, step)
        ]
        for part in _parts(new, _METRICS_PER_CALL):
            self._client.log_batch(self.id, metrics=part)

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
    params: Mapping[str, object] | None = None,
    tags: Mapping[str, str] | None = None,
) -> Run:
    """Start a run of `experiment` (made where missing), or continue the run `run_id`.

    Args:
        uri: as `tracking_uri` names it.
        parent_id: the run that this one is listed under.

    Raises:
        UserError: `run_id` is not in the record.
    """
    from mlflow.exceptions import MlflowException

    client = client_of(uri)
    if run_id is None:
        all_tags = {Tag.USER: os.environ.get("USER", "kgan_ray"), **(tags or {})}
        if parent_id:
            all_tags[Tag.PARENT] = parent_id
        # With its tags at once: a run without them, left by a kill in between, would never be found again.
        created = client.create_run(
            experiment_id(client, uri, experiment), tags=_shortened(all_tags), run_name=name
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


def active_run(uri: str, run_id: str) -> Run | None:
    """Open a run to add to it, as `existing_run` does; None where the record has it no more, or in its trash."""
    from mlflow.exceptions import MlflowException

    client = client_of(uri)
    try:
        is_active = str(client.get_run(run_id).info.lifecycle_stage) == "active"
    except MlflowException:
        return None
    return Run(client, run_id, continued=True) if is_active else None


def existing_run(uri: str, run_id: str) -> Run:
    """Open a run to add to it: whether it runs or how it has ended stays as it is. Raises UserError if it is unknown."""
    from mlflow.exceptions import MlflowException

    client = client_of(uri)
    try:
        client.get_run(run_id)
    except MlflowException as error:
        raise UserError(f"the MLflow record at {uri} has no run {run_id}: {error}") from None
    return Run(client, run_id, continued=True)


def end_run(uri: str, run_id: str, status: str, tags: Mapping[str, str]) -> None:
    """Tag a run and end it, in as few calls as there can be: on SQLite each takes 10 ms. `status` as in `Run.finish`."""
    run = Run(client_of(uri), run_id, continued=True)
    run.set_tags(tags)
    run.finish(status)


def find_run(uri: str, *, experiment: str, tags: Mapping[str, str]) -> str | None:
    """Return the id of the experiment's first run that carries all of these tags, or None."""
    client = client_of(uri)
    if not is_known_experiment(client, uri, experiment):
        return None
    query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    runs = client.search_runs(
        [experiment_id(client, uri, experiment)], query, max_results=1, order_by=["attributes.start_time ASC"]
    )
    return runs[0].info.run_id if runs else None


def discard_run(uri: str, run_id: str) -> None:
    """Move a run to the record's trash."""
    client_of(uri).delete_run(run_id)


def metric_history(uri: str, run_id: str, keys: Iterable[str]) -> dict[str, list[tuple[int, float]]]:
    """Return, of those metrics that the run has, every (step, value), by step."""
    client = client_of(uri)
    history = {key: client.get_metric_history(run_id, key) for key in keys}
    return {
        key: sorted((point.step, point.value) for point in points) for key, points in history.items() if points
    }


def _shortened(tags: Mapping[str, str]) -> dict[str, str]:
    return {str(key): value[:_TAG_LENGTH] for key, value in tags.items()}


def _parts(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))
