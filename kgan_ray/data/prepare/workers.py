"""Parts written at the same time: by processes of this machine, or by the tasks of a Ray cluster where there is one.

On one machine plain processes do what Ray's would, and start in a second where Ray takes ten. Each reads its jobs from a pipe,
which ends with the process that started it, however that ends: none is left over. (Those of `multiprocessing` would run a
caller's script once more, and live on after a parent that is killed.)
"""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import queue
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import orjson

from kgan_ray.cluster import connect, is_cluster_at_hand
from kgan_ray.data.prepare.parts import PartJob, RowReport, as_row, write_part
from kgan_ray.data.sources.source import Item, Source
from kgan_ray.limits import memory_limit, num_cores
from kgan_ray.settings import UserError
from kgan_ray.storage import StoreError, StorePath, describe

FEW_PARTS = 2  # are written by this process: others would take as long to start
_PROCESS_BYTES = 400 << 20  # that a process takes; 171 to 345 MB were measured
Outcome = tuple[int, list[int], list[RowReport]]  # of a part: its number, the rows of its row groups, the reports


def written_parts(jobs: Sequence[PartJob], sources: Sequence[Source], folder: StorePath) -> Iterator[Outcome]:
    """Write the parts of a dataset folder; yield the outcome of each as it ends. Raises OSError for a full disk."""
    if len(jobs) <= FEW_PARTS:
        return ((job.number, *write_part(job, sources, folder)) for job in jobs)
    if is_cluster_at_hand():
        return _by_a_cluster(jobs, sources, folder)
    return _by_processes(jobs, sources, folder)


class _Process:
    """A process of this machine that writes one part after the other."""

    def __init__(self, sources: Sequence[Source], folder: StorePath) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import _serve; _serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,  # a Ctrl-C is for the process that waits
        )
        self._task = sources, folder

    def write(self, job: PartJob) -> Outcome:
        """Have it write a part, and wait for the outcome. Raises what was raised there."""
        assert self._process.stdin
        assert self._process.stdout
        try:
            pickle.dump((job, *self._task), self._process.stdin)
            self._process.stdin.flush()
            outcome = pickle.load(self._process.stdout)
        except (EOFError, BrokenPipeError):
            raise UserError(
                f"a process that writes parts has died ({self._death()}); nothing was kept of the dataset"
            ) from None
        if isinstance(outcome, Exception):
            raise outcome
        return job.number, *outcome

    def _death(self) -> str:
        code = self._process.wait()
        return "the system has killed it, as it does where memory is short" if code == -9 else f"exit code {code}"

    def end(self) -> None:
        """End it, in whatever it is doing."""
        self._process.kill()
        self._process.wait()


def _serve() -> None:
    """Write the parts that come in by standard input, until it ends; what is raised goes back in place of an outcome."""
    with os.fdopen(os.dup(1), "wb") as outcomes:
        os.dup2(2, 1)  # what a library may print is no outcome
        while True:
            try:
                task = pickle.load(sys.stdin.buffer)
            except EOFError:
                return
            try:
                outcome: object = write_part(*task)
            except Exception as error:  # noqa: BLE001
                outcome = error
            with contextlib.suppress(BrokenPipeError):
                pickle.dump(outcome, outcomes)
                outcomes.flush()


def _by_processes(jobs: Sequence[PartJob], sources: Sequence[Source], folder: StorePath) -> Iterator[Outcome]:
    count = max(1, min(num_cores(), memory_limit() // _PROCESS_BYTES, len(jobs)))
    processes = [_Process(sources, folder) for _ in range(count)]
    idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()
    for process in processes:
        idle.put(process)

    def write(job: PartJob) -> Outcome:
        process = idle.get()
        try:
            return process.write(job)
        finally:
            idle.put(process)

    threads = ThreadPoolExecutor(len(processes))
    try:
        for future in as_completed([threads.submit(write, job) for job in jobs]):
            yield future.result()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.end()


def _by_a_cluster(jobs: Sequence[PartJob], sources: Sequence[Source], folder: StorePath) -> Iterator[Outcome]:
    connect()
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    rows = [
        {"number": job.number, "items": orjson.dumps([(number, tuple(item)) for number, item in job.items])}
        for job in jobs
    ]
    work = functools.partial(_work, sources=list(sources), folder=folder)
    for row in ray.data.from_items(rows, override_num_blocks=len(rows)).map(work).iter_rows():
        outcome = orjson.loads(row["outcome"])
        if "error" in outcome:
            raise OSError(outcome["errno"], outcome["error"]) if outcome["errno"] else StoreError(outcome["error"])
        yield row["number"], outcome["groups"], [RowReport(**report) for report in outcome["reports"]]


def _work(row: dict[str, Any], sources: Sequence[Source], folder: StorePath) -> dict[str, Any]:
    """Write one part, in a Ray worker. A full disk is an outcome: as an exception it would come back wrapped."""
    job = PartJob(int(row["number"]), [(number, Item(*item)) for number, item in orjson.loads(row["items"])])
    try:
        outcome = as_row(*write_part(job, sources, folder))
    except OSError as error:
        is_told = isinstance(error, StoreError)  # by a line of its own
        outcome = {"error": str(error) if is_told else describe(error), "errno": None if is_told else error.errno}
    return {"number": job.number, "outcome": orjson.dumps(outcome)}
