"""Processes that train beside a measurement, as trials do beside each other: they share caches and memory bandwidth.

`python -m kgan_ray.tuning.running.neighbours` is such a process: it trains on until its standard input ends.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from kgan_ray.devices import cpu_threads
from kgan_ray.settings import Settings
from kgan_ray.skeleton import MotionSpec
from kgan_ray.training.estimate import random_share
from kgan_ray.training.gan import GAN


@contextmanager
def neighbours(settings: Settings, spec: MotionSpec, count: int) -> Iterator[None]:
    """Let so many processes train meanwhile, each one worker's share of a batch on this machine's CPU."""
    command = [sys.executable, "-m", __name__]
    started = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(count)]
    try:
        for process in started:
            assert process.stdin
            process.stdin.write(pickle.dumps((settings, spec)))
            process.stdin.flush()
        for process in started:
            assert process.stdout
            process.stdout.readline()  # it has warmed up
        yield
    finally:
        for process in started:
            process.kill()
            process.communicate()


def _train_on() -> None:
    settings, spec = pickle.load(sys.stdin.buffer)
    # Reading returns when the parent ends, however it does.
    over = threading.Thread(target=sys.stdin.buffer.read, daemon=True)
    over.start()
    gan = GAN(settings, spec)
    motions, labels = random_share(gan)
    with cpu_threads(settings.resources.threads):
        gan.step(motions, labels)
        print("ready", flush=True)
        while over.is_alive():
            gan.step(motions, labels)


if __name__ == "__main__":
    _train_on()
