"""Prepare and load as many recordings as NTU RGB+D 60 or 120 has: time, memory, bytes read; four workers, four trials.

    python tests/helpers/ntu_scale.py SAMPLE_FOLDER --classes 120 --output FOLDER [--count 114480]

Every recording is a hard link to one of the sample's `.skeleton` files, under a name that NTU could have given it: names
and number are NTU's, parsing is real work, and the disk is asked for little. Last: a table in Markdown.
"""

import argparse
import itertools
import multiprocessing
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import torch

from kgan_ray.cluster import connect
from kgan_ray.data.dataset import Dataset
from kgan_ray.data.shared import SharedMotions, bytes_to_share
from kgan_ray.settings import DataSettings, resolve_settings
from kgan_ray.training.gan import GAN

COUNTS = {60: 56_880, 120: 114_480}
BATCH, WORKERS = 32, 4


def names(classes, count):
    """Distinct NTU names, spread over all combinations of setup, camera, subject, repetition and action."""
    setups, subjects = (17, 40) if classes == 60 else (32, 106)
    takes = list(itertools.product(range(1, setups + 1), range(1, 4), range(1, subjects + 1), (1, 2)))
    for number in range(count):
        take, action = divmod(number * 15_485_863 % (len(takes) * classes), classes)  # a prime: no two are alike
        setup, camera, subject, repetition = takes[take]
        yield f"S{setup:03}C{camera:03}P{subject:03}R{repetition:03}A{1 + action:03}"


def link(sample, folder, classes, count):
    folder.mkdir(parents=True, exist_ok=True)
    files = sorted(sample.glob("*.skeleton"))
    for number, name in enumerate(names(classes, count)):
        target = folder / f"{name}.skeleton"
        if not target.exists():
            target.hardlink_to(files[number % len(files)])


def run_measured(command):
    """Seconds, and the most memory that the command and all that it started held at once."""
    peak, ended = 0, threading.Event()
    started = time.perf_counter()
    process = subprocess.Popen(command)

    def watch():
        nonlocal peak
        while not ended.wait(1.0):
            total = 0
            for each in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
                try:
                    total += each.memory_full_info().pss
                except psutil.Error:
                    continue
            peak = max(peak, total)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    status = process.wait()
    ended.set()
    if status:
        raise RuntimeError(f"{command} ended with {status}")
    return time.perf_counter() - started, peak


def load_share(path, held_in, rank, start, results):
    """From Parquet to the first step's batch, all workers at once."""
    start.wait()
    before, started = bytes_read(), time.perf_counter()
    batches = (
        Dataset.open(path)
        .view(DataSettings(benchmark="xsub", held_in=held_in))
        .batches(
            batch_size=BATCH,
            seed=0,
            rank=rank,
            world_size=WORKERS,
        )
    )
    batches.batch(0)
    seconds = time.perf_counter() - started
    for step in range(batches.batches_per_epoch):
        batches.batch(step)
    per_batch = (time.perf_counter() - started - seconds) / batches.batches_per_epoch
    own = psutil.Process().memory_full_info()
    results.put((rank, seconds, per_batch, bytes_read() - before, own.uss))


def bytes_read():
    (line,) = [line for line in Path("/proc/self/io").read_text().splitlines() if line.startswith("rchar")]
    return int(line.split()[1])


def measure_loading(path, held_in):
    context = multiprocessing.get_context("spawn")
    start, results = context.Event(), context.Queue()
    workers = [
        context.Process(target=load_share, args=(path, held_in, rank, start, results)) for rank in range(WORKERS)
    ]
    for worker in workers:
        worker.start()
    time.sleep(15)  # for their imports
    start.set()
    found = sorted(results.get() for _ in workers)
    for worker in workers:
        worker.join()
    return found


class Trial:
    """What one trial of a sweep does until its first step is done, in a process of Ray's that has imported what it needs."""

    def __init__(self, threads):
        torch.set_num_threads(threads)
        torch.optim.Adam([torch.ones(1)])  # imports a compiler

    def started(self):
        return True

    def read(self, dataset, settings):
        """Return the seconds to the first batch, and to an epoch's others in processor time for each."""
        started = time.perf_counter()
        self.view, self.settings = dataset.view(settings.data), settings
        self.batches = self.view.batches(batch_size=BATCH, seed=settings.seed)
        self.batches.batch(0)
        to_first, started = time.perf_counter() - started, time.process_time()
        for step in range(self.batches.batches_per_epoch):
            self.batches.batch(step)
        return to_first, (time.process_time() - started) / self.batches.batches_per_epoch

    def step(self):
        """Return the seconds that the networks and their first two steps take."""
        times = [time.perf_counter()]
        gan = GAN(self.settings, self.view.spec)
        for step in range(2):
            gan.step(*self.batches.batch(step))
            times.append(time.perf_counter())
        return times[1] - times[0], times[2] - times[1]


def memory_of_all():
    """Return the PSS of this process, which maps what it has shared, and of all that it has started."""
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return sum(one.memory_full_info().pss for one in processes if one.status() != psutil.STATUS_ZOMBIE)


def measure_trials(path, is_shared, number):
    """Let so many trials read at once, then step one after the other: seconds, and bytes that all processes take more."""
    import ray

    settings = resolve_settings("ntu60-xsub", {"data.path": path})
    dataset = Dataset.open(path)
    view = dataset.view(settings.data)
    view.rows("train")
    connect(bytes_to_share=bytes_to_share([view]))
    try:
        started = time.perf_counter()
        if is_shared:
            dataset = dataset.holding(SharedMotions([view]))
        seconds_to_share = time.perf_counter() - started
        trials = [ray.remote(num_cpus=2 / WORKERS)(Trial).remote(threads=1) for _ in range(number)]

        def ask_all(method, *given):
            return ray.get([getattr(trial, method).remote(*given) for trial in trials])

        ask_all("started")
        before = memory_of_all()
        read = ask_all("read", dataset, settings)
        added = memory_of_all() - before
        steps = [ray.get(trial.step.remote()) for trial in trials]
        return [
            seconds_to_share,
            *map(statistics.median, (*zip(*read, strict=True), *zip(*steps, strict=True))),
            added,
        ]
    finally:
        ray.shutdown()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sample", type=Path)
    parser.add_argument("--classes", type=int, choices=(60, 120), default=60)
    parser.add_argument("--count", type=int)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    count = options.count or COUNTS[options.classes]
    files, data = options.output / "files", options.output / "data"
    link(options.sample, files, options.classes, count)
    command = [sys.executable, "-m", "kgan_ray.prepare", str(files), "--output", str(data), "--force"]
    seconds, peak = run_measured(command)
    size = sum(file.stat().st_size for file in (data / "motions").iterdir())
    print("\n| what | figure |\n| --- | --- |")
    print(
        f"| prepare {count} recordings, {os.cpu_count()} cores | {seconds:.0f} s, {count / seconds:.0f} a second |"
    )
    print(f"| peak memory of all its processes | {peak / 2**30:.2f} GiB |")
    print(f"| dataset on disk | {size / 1e9:.2f} GB |")
    for held_in in ("memory", "disk"):
        for rank, wait, per_batch, read, held in measure_loading(str(data), held_in):
            print(
                f"| held in {held_in}, worker {rank} of {WORKERS}: Parquet to first batch | {wait:.1f} s, "
                f"{read / 1e6:.0f} MB read, {held / 2**30:.2f} GiB of its own memory, {1e3 * per_batch:.2f} ms a batch |"
            )
    for is_shared in (False, True):
        for number in (1, WORKERS):
            sharing, first, per_batch, first_step, second_step, added = measure_trials(
                str(data), is_shared, number
            )
            print(
                f"| {number} trials at once, {f'one copy, made in {sharing:.1f} s' if is_shared else 'each reads'} | "
                f"first batch {first:.2f} s, {1e3 * per_batch:.2f} ms of processor time a batch, {added / 1e9:.2f} GB for "
                f"data; networks and first step {first_step:.2f} s, second step {second_step:.2f} s, alone |"
            )


if __name__ == "__main__":
    main()
