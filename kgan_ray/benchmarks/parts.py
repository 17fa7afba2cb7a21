"""The measurements that the verb benchmark takes, part by part."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from kgan_ray.benchmarks import scaling
from kgan_ray.benchmarks.gpu import measure_gpu
from kgan_ray.benchmarks.presets import measure_presets
from kgan_ray.benchmarks.reading import measure_reading
from kgan_ray.benchmarks.rows import PARTS, Row
from kgan_ray.benchmarks.steps import BATCH, ROUNDS, training
from kgan_ray.benchmarks.timing import ntu60_gan, peak, peak_memory, seconds, use_device
from kgan_ray.data.prepare.service import Demo, demo_dataset
from kgan_ray.devices import line_of_device, products, unusable_gpu, usable_device
from kgan_ray.metrics.classifier import Classifier
from kgan_ray.metrics.frechet import Gaussian, frechet_distance
from kgan_ray.publishing import writing_output
from kgan_ray.settings import DataSettings, UserError


def run_benchmark(
    parts: Sequence[str],
    *,
    device: str = "auto",
    threads: int | None = None,
    files: str | None = None,
    figure: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[Row]:
    """Measure the parts, of `PARTS`, one after the other.

    `threads` of the CPU are used, all cores by default. "reading" reads `files`, a folder or zip; "workers" draws its
    model of many workers into `figure`. `say` takes the line that names the device. Raises UserError before anything is
    measured.
    """
    for part in parts:
        if part not in PARTS:
            raise UserError(f"{part}: unknown part; known are {', '.join(PARTS)}")
    if "reading" in parts and not files:
        raise UserError("reading: --files PATH is missing")
    device = usable_device(device)
    if "gpu" in parts and device == "cpu":
        raise UserError(f"gpu: needs a GPU that PyTorch can use; {unusable_gpu() or 'none is found here'}")
    use_device(device)
    if threads:
        torch.set_num_threads(threads)
    say(f"{line_of_device(device)}, PyTorch {torch.__version__}")
    measures: Mapping[str, Callable[[], list[Row]]] = {
        "training": lambda: training(device),
        "sampling": lambda: sampling(device),
        "loading": lambda: loading(device),
        "evaluation": lambda: evaluation(device),
        "presets": lambda: measure_presets(device),
        "reading": lambda: reading(files or ""),
        "workers": lambda: workers(device, figure),
        "gpu": lambda: [*peaks(device), *measure_gpu(device), *evaluation(device)],
    }
    rows = [Row("threads", torch.get_num_threads(), name="threads")]
    for part in parts:
        rows += measures[part]()
    mebibytes = peak_memory(device) / 2**20
    return [*rows, Row("peak memory of this process", mebibytes, "MiB", "peak_memory_bytes", scale=2**20)]


def peaks(device: str) -> list[Row]:
    """Measure matrix products on a GPU in each precision."""
    rows = []
    for name, tf32, dtype in (
        ("float32", False, torch.float32), ("TF32", True, torch.float32), ("bfloat16", False, torch.bfloat16)
    ):  # fmt: skip
        with products(tf32=tf32):
            rows.append(Row(f"matrix-product peak, {name}", peak(device, dtype), "GFLOP/s"))
    return rows


def sampling(device: str) -> list[Row]:
    """Measure motions a second, truncated."""
    gan = ntu60_gan(device)
    labels = torch.arange(1024, device=device) % 60
    gan.sample(labels[:64], truncation=0.95)
    best_peak = max(peak(device) for _ in range(2))
    spent = min(seconds(lambda: gan.sample(labels, truncation=0.95), device) for _ in range(ROUNDS))
    rate = len(labels) / spent
    return [
        Row("sampling, truncation 0.95", rate, "motions/s", "samples_per_second"),
        Row("sampling at a peak of 310 GFLOP/s would be", rate * 310 / best_peak, "motions/s"),
    ]


def loading(device: str) -> list[Row]:
    """Measure the share of a step that fetching its batch takes, data on the device."""
    gan = ntu60_gan(device)
    with tempfile.TemporaryDirectory() as folder:
        dataset = demo_dataset(Path(folder) / "demo", Demo(num_sequences=600))
        batches = dataset.view(DataSettings()).batches(batch_size=BATCH, seed=0, device=device)
    steps = iter(range(10_000))
    fetch = min(seconds(lambda: batches.batch(next(steps)), device, 50) for _ in range(ROUNDS))
    motions, labels = batches.batch(0)
    gan.step(motions, labels)
    step = min(seconds(lambda: gan.step(motions, labels), device, 5) for _ in range(ROUNDS))
    return [
        Row("loading: batches a second", 1 / fetch),
        Row("loading: share of a step", 100 * fetch / (fetch + step), "%", "loader_share", scale=0.01),
    ]


def evaluation(device: str) -> list[Row]:
    """Measure one evaluation as it happens in training: 2 000 generated motions, fid and accuracy."""
    gan = ntu60_gan(device)
    classifier = Classifier(gan.spec).to(device).eval()
    labels = torch.arange(2000, device=device) % 60

    @torch.no_grad()
    def evaluate() -> None:
        motions = gan.sample(labels)
        features = torch.cat([classifier.features(part) for part in motions.split(512)])
        classifier.classify(features).argmax(dim=1)
        frechet_distance(Gaussian.of(features), Gaussian.of(features))

    spent = min(seconds(evaluate, device) for _ in range(ROUNDS))
    return [Row("evaluation of 2 000 motions", spent, "s", "evaluation_seconds")]


def reading(path: str) -> list[Row]:
    """Measure files a second and core, beside a plain line-by-line reader."""
    measured = measure_reading(path)
    return [
        Row("reading .skeleton files", measured["files_a_second"], "files/s and core"),
        Row("reading, plain reader", measured["plain_files_a_second"], "files/s and core"),
        Row("times as fast as the plain reader", measured["times_plain"]),
    ]


def workers(device: str, figure: str | None) -> list[Row]:
    """Measure what a second worker gains at the same global batch, each of one thread or GPU; and what the two send."""
    measured = scaling.measure(device)
    rows = [Row(f"workers: one, batch {share}", 1 / spent, "steps/s") for share, spent in measured.seconds.items()]
    if math.isnan(measured.together):  # one device
        return rows
    if figure:
        with writing_output(Path(figure), where="--figure"):
            scaling.draw(measured, Path(figure))
    return [
        *rows,
        Row(f"workers: two, batch {scaling.BATCH}", 1 / measured.together, "steps/s"),
        Row("workers: efficiency of two", measured.efficiency),
        Row("workers: all-reduces a step", measured.traffic.operations),
        Row("workers: sent in a step", measured.traffic.bytes / 2**20, "MiB"),
        Row("workers: an all-reduce of as much", 1e3 * measured.all_reduce, "ms"),
    ]
