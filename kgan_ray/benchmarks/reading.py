"""How fast recordings are read and prepared, beside a plain reader: the measurements behind `benchmark`."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from kgan_ray.data.prepare.ingest import ingest
from kgan_ray.data.recording import RejectedRecording
from kgan_ray.data.sources.ntu_files import SkeletonFiles
from kgan_ray.data.sources.skeleton_file import NUM_JOINTS
from kgan_ray.data.sources.source import Item
from kgan_ray.limits import num_cores
from kgan_ray.settings import UserError

_PLAIN_FILES = 150  # the plain reader is slow, and its rate is steady


def plain_bodies(text: str) -> dict[str, np.ndarray]:
    """Read as one does it first, line by line, to {body id: (T, 25, 3)}, zeros where a body was not seen."""
    lines = iter(text.splitlines())
    num_frames = int(next(lines))
    bodies: dict[str, np.ndarray] = {}
    for frame in range(num_frames):
        for _ in range(int(next(lines))):
            body = next(lines).split()[0]
            motion = bodies.setdefault(body, np.zeros((num_frames, NUM_JOINTS, 3), np.float32))
            for joint in range(int(next(lines))):
                values = [float(word) for word in next(lines).split()]
                motion[frame, joint] = values[:3]
    return bodies


def measure_reading(files_from: str | Path, *, rounds: int = 3) -> dict[str, float]:
    """Measure files a second, on one core, of fetching and parsing `.skeleton` files from a folder or zip.

    The ratio's denominator is the plain reader on the same bytes, which are already in memory there: the two take
    turns, and each counts with its best round. Raises UserError.
    """
    source, items = _readable(files_from)
    ours, plain, inflating = [], [], []
    texts = [source.fetch(item).decode() for item in items[:_PLAIN_FILES]]
    for _ in range(rounds):
        ours.append(_seconds(lambda: [source.parse(item, source.fetch(item)) for item in items]))
        inflating.append(_seconds(lambda: [source.fetch(item) for item in items]))
        plain.append(_seconds(lambda: [plain_bodies(text) for text in texts]))
    rate, plain_rate = len(items) / min(ours), len(texts) / min(plain)
    return {
        "files": len(items),
        "megabytes_a_file": sum(len(source.fetch(item)) for item in items) / len(items) / 1e6,
        "files_a_second": rate,
        "of_it_fetching": min(inflating) / min(ours),
        "plain_files_a_second": plain_rate,
        "times_plain": rate / plain_rate,
    }


def measure_preparing(files_from: str | Path, num_files: int = 3000) -> dict[str, float]:
    """Measure files a second of a whole `prepare`, on all cores: `num_files` made of the given ones under new names.

    Starting Ray counts. `peak_gigabytes` is the larger of this process's and its largest ended child's memory.
    """
    source, items = _readable(files_from)
    with tempfile.TemporaryDirectory() as scratch:
        copies = Path(scratch) / "recordings"
        replicate(source, items, copies, num_files)
        started = time.perf_counter()
        dataset, _ = ingest([SkeletonFiles(copies)], Path(scratch) / "dataset")
        seconds = time.perf_counter() - started
        counts = dataset.manifest.counts
    return {
        "files": counts.read,
        "kept": counts.kept,
        "seconds": seconds,
        "files_a_second": counts.read / seconds,
        "cores": num_cores(),
        "peak_gigabytes": _peak_gigabytes(),
    }


def replicate(source: SkeletonFiles, items: Sequence[Item], folder: Path, num_files: int) -> None:
    """Write `num_files` recordings into a folder, those of the source again and again under new names."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = [(item.name[-4:], source.fetch(item)) for item in items]
    for number in range(num_files):
        action, text = texts[number % len(texts)]
        setup, replication = divmod(number, 999)
        (folder / f"S{setup + 1:03}C001P001R{replication + 1:03}{action}.skeleton").write_bytes(text)


def _readable(files_from: str | Path) -> tuple[SkeletonFiles, list[Item]]:
    """Return the source, and those of its recordings that are whole."""
    path = Path(files_from)
    if not path.exists():
        raise UserError(f"{path}: does not exist; expected a folder or zip of .skeleton files")
    source, items = SkeletonFiles(path), []
    for item in source.items():
        try:
            source.parse(item, source.fetch(item))
        except RejectedRecording:
            continue
        items.append(item)
    if not items:
        raise UserError(f"{path}: holds no .skeleton file that can be read")
    return source, items


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _peak_gigabytes() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    both = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(who).ru_maxrss for who in both) * unit / 1e9
