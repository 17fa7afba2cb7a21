"""Prepare and load as many recordings as NTU RGB+D 60 or 120 has: time, memory, bytes read by each of four workers.

    python tests/helpers/ntu_scale.py SAMPLE_FOLDER --classes 120 --output FOLDER [--count 114480]

Every recording is a hard link to one of the sample's `.skeleton` files, under a name that NTU could have given it: names
and number are NTU's, parsing is real work, and the disk is asked for little. Last: a table in Markdown.
"""

import argparse
import itertools
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

from kgan_ray.data.dataset import Dataset
from kgan_ray.settings import DataSettings

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


if __name__ == "__main__":
    main()
