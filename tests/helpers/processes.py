"""Processes that tests start, wait for and never leave behind."""

import contextlib
import subprocess
import time

import psutil

_started: list[subprocess.Popen] = []


def start(command: list[str], **more) -> subprocess.Popen:
    """Start a command in a session of its own; it is killed at the end of the test if it still runs."""
    process = subprocess.Popen(command, start_new_session=True, **more)
    _started.append(process)
    return process


def end_started() -> None:
    """Kill whatever still runs of what `start` has started, with all its children."""
    for process in _started:
        if process.poll() is None:
            for child in [*psutil.Process(process.pid).children(recursive=True), process]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
    _started.clear()


def wait_for(is_so, process: subprocess.Popen) -> None:
    """Wait until `is_so()`, at most 400 seconds; the process must not end before."""
    for _ in range(4000):
        if is_so():
            return
        assert process.poll() is None, "the process ended too early"
        time.sleep(0.1)
    raise AssertionError("nothing happened within 150 s")
