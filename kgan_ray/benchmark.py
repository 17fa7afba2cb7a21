"""Measure this machine: matrix-product peak, training, sampling, loading, evaluation. Everything as ratios in one run.

    python -m kgan_ray.benchmark training sampling
    python -m kgan_ray.benchmark reading --files nturgbd_skeletons_s001_to_s017.zip
    python -m kgan_ray.benchmark workers --figure scaling.png
    python -m kgan_ray.benchmark --space search_spaces/disc.yaml --data datasets/ntu60 --workers 8

Training and sampling are measured at the shapes of NTU-60: 60 classes, 64 frames, 25 joints, batch 32, published widths.
`workers` measures two workers of one thread (or GPU) each beside one, and draws what many would gain on several networks.
With --space nothing but that sweep is estimated: how long it would take here, and on N workers like this machine.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kgan_ray.benchmarks.timing import ntu60_gan, seconds
from kgan_ray.cli import run_verb, verb_parser
from kgan_ray.settings import UserError

if TYPE_CHECKING:
    import argparse

    from torch import Tensor

    from kgan_ray.training.gan import GAN

Row = tuple[str, float, str]  # what, value, unit

PUBLISHED_STEP = 218.0  # GFLOP of a step as the public implementation computes it
BATCH = 32
ROUNDS = 3


def main(arguments: Sequence[str] | None = None) -> int:
    parser = verb_parser("benchmark", __doc__)
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: training sampling loading)"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all cores)")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--files", metavar="PATH", help="with reading: a folder or zip of .skeleton files")
    parser.add_argument("--figure", metavar="FILE", help="with workers: draw the model of many workers there")
    parser.add_argument("--output", metavar="FILE", help="write the rows as JSON too")
    parser.add_argument("--json", action="store_true", help="print one line of JSON instead of the table")
    parser.add_argument("--space", metavar="FILE", help="estimate how long this search space would take")
    parser.add_argument("--data", metavar="DIR", help="with --space: the dataset (default: the demo data)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="with --space: workers like this one")
    options = parser.parse_args(arguments)
    parts = options.parts or ["training", "sampling", "loading", "evaluation"]
    for part in parts:
        if part not in PARTS:
            raise UserError(f"{part}: unknown part; known are {', '.join(PARTS)}")
    if "reading" in parts and not options.files:
        raise UserError("reading: --files PATH is missing")
    import torch

    if options.device != "cpu" and not torch.cuda.is_available():
        raise UserError(f"--device {options.device}: PyTorch finds no GPU here")
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.space:
        for line in sweep_estimate(options.space, options.data, options.workers):
            print(line)
        return 0
    rows: list[Row] = [("threads", torch.get_num_threads(), "")]
    for part in parts:
        rows += PARTS[part](options)
    rows.append(("peak memory of this process", peak_memory(options.device) / 2**20, "MiB"))
    if options.json:
        print(json.dumps(short_names(rows)))
    else:
        for what, value, unit in rows:
            print(f"{what:<48}{value:>12.4g} {unit}")
    if options.output:
        Path(options.output).write_text(
            json.dumps([dict(zip(("what", "value", "unit"), row, strict=True)) for row in rows])
        )
    return 0


JSON_NAMES = {
    "threads": "threads",
    "matrix-product peak, float32": "gemm_gflops",
    "training, published model": "steps_per_second",
    "training: discriminator's step alone": "discriminator_steps_per_second",
    "training: generator's step alone": "generator_steps_per_second",
    "training: steps x 218 GFLOP / peak": "steps_times_published_flops_per_peak",
    "times as fast": "times_literal",
    "sampling, truncation 0.95": "samples_per_second",
    "evaluation of 2 000 motions": "evaluation_seconds",
}


def short_names(rows: Sequence[Row]) -> dict[str, float]:
    """The rows by the names that a script reads; shares and memory in plain units."""
    values = {what: value for what, value, _ in rows}
    found = {short: values[what] for what, short in JSON_NAMES.items() if what in values}
    if "loading: share of a step" in values:
        found["loader_share"] = values["loading: share of a step"] / 100
    found["peak_memory_bytes"] = values["peak memory of this process"] * 2**20
    return found


def peak_memory(device: str) -> int:
    """Bytes of the device's memory, or of this process's, that were in use at most."""
    if device != "cpu":
        import torch

        return torch.cuda.max_memory_allocated()
    import resource
    import sys

    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def sweep_estimate(space_file: str, data: str | None, workers: int) -> list[str]:
    """What a search space would take here and on `workers` machines like this, one trial on each core or device."""
    import os

    from kgan_ray.data.dataset import Dataset
    from kgan_ray.data.prepare.ingest import demo_dataset
    from kgan_ray.metrics.suite import Evaluator
    from kgan_ray.text import duration
    from kgan_ray.tuning.question.space import base_settings, load_space
    from kgan_ray.tuning.running.estimate import explored_share, seconds_per_run
    from kgan_ray.tuning.running.jobs import num_confirmed
    from kgan_ray.tuning.search.proposals import num_explored
    from kgan_ray.tuning.state import Sweep

    if workers < 1:
        raise UserError(f"--workers {workers}: at least 1 is needed")
    space = load_space(space_file)
    settings = base_settings(space, None, {"data.path": data} if data else {})
    dataset = Dataset.open(data) if data else demo_dataset(Path("datasets/demo"))
    per_run = seconds_per_run(settings, Evaluator(dataset.view(settings.data), settings.evaluation))
    at_once = max(
        1, int((os.cpu_count() or 1) // (settings.resources.cpus_per_worker * settings.resources.num_workers))
    )
    sweep = Sweep(name=space.name, space={}, settings={}, metric=space.objective.metric, mode=space.mode)
    sweep.rounds = [space.confirm.seeds]
    explored, confirmed = num_explored(space), num_confirmed(sweep, space)
    total = (explored * explored_share(space.scheduler, settings) + confirmed) * per_run
    return [
        f"{explored} explored and {confirmed} confirming trials of {settings.training.steps} steps, some {per_run:.0f} s each",
        f"here, {at_once} at a time: about {duration(total / at_once)}",
        f"on {workers} such workers, {at_once * workers} at a time: about {duration(max(per_run, total / at_once / workers))}",
    ]


def peak(device: str) -> float:
    """GFLOP/s of a large float32 matrix product, the best of several."""
    import torch

    size = 2048 if device == "cpu" else 8192
    a, b = torch.rand(size, size, device=device), torch.rand(size, size, device=device)
    return max(2e-9 * size**3 / seconds(lambda: a @ b, device) for _ in range(8))


def training(device: str) -> list[Row]:
    """Steps a second, of ours and of the published step written down literally, in turns; and what techniques cost."""
    import torch

    from kgan_ray.benchmarks.literal import LiteralDiscriminator, LiteralGAN, LiteralGenerator
    from kgan_ray.skeleton import NTU25, SkeletonGraph

    motions = torch.rand(BATCH, 3, 64, 25, device=device) * 2 - 1
    labels = torch.arange(BATCH, device=device)
    techniques: dict[str, dict[str, Any]] = {
        "max pooling": {"techniques.pooling": "max"},
        "input noise": {"techniques.input_noise_std": 0.1},
        "label noise": {"techniques.label_noise_std": 0.1},
        "quantile mask": {"techniques.mask_quantile": 0.5},
    }
    gans = {
        "published": ntu60_gan(device),
        **{name: ntu60_gan(device, changes) for name, changes in techniques.items()},
    }
    cycle = gans["published"].settings.training.n_critic
    best = dict.fromkeys([*gans, "literal"], float("inf"))
    best_peak = 0.0
    literal = None
    if device == "cpu":
        graph = SkeletonGraph(NTU25)
        literal = LiteralGAN(
            LiteralGenerator(graph, 3, 60, 64, 512, 4), LiteralDiscriminator(graph, 3, 60, 64, 512)
        )
        z = torch.randn(BATCH, 512)
        mix = torch.rand(BATCH, 1, 1, 1)
        noise = gans["published"].generator.split_noise(
            torch.randn(BATCH, gans["published"].generator.noise_width)
        )
    for gan in gans.values():
        for _ in range(cycle):
            gan.step(motions, labels)
    for _ in range(ROUNDS):
        best_peak = max(best_peak, peak(device))
        for name, gan in gans.items():
            best[name] = min(best[name], seconds(partial(gan.step, motions, labels), device, cycle))
        if literal is not None:
            best["literal"] = min(
                best["literal"],
                seconds(lambda: literal.step(motions, labels, z, mix, noise, noise), device, cycle),
            )
    ours = best["published"]
    alone = _each_networks_step(gans["published"], motions, labels, device)
    rows = [
        ("matrix-product peak, float32", best_peak, "GFLOP/s"),
        ("training, published model", 1 / ours, "steps/s"),
        ("training: discriminator's step alone", 1 / alone["discriminator"], "steps/s"),
        ("training: generator's step alone", 1 / alone["generator"], "steps/s"),
        ("training: steps x 218 GFLOP / peak", PUBLISHED_STEP / ours / best_peak, ""),
    ]
    if literal is not None:
        rows += [
            ("training, literal step", 1 / best["literal"], "steps/s"),
            ("times as fast", best["literal"] / ours, ""),
        ]
    return rows + [(f"step time with {name}", best[name] / ours, "x") for name in techniques]


def _each_networks_step(gan: GAN, motions: Tensor, labels: Tensor, device: str) -> dict[str, float]:
    """Seconds of a discriminator step and of a generator step."""
    z = gan.draws.normal(len(motions), gan.settings.model.latent_dim)
    work = {
        "discriminator": lambda: gan.discriminator_step(motions, labels, z),
        "generator": lambda: gan.generator_step(z, labels),
    }
    return {name: min(seconds(step, device) for _ in range(ROUNDS)) for name, step in work.items()}


def evaluation(device: str) -> list[Row]:
    """Seconds of one evaluation as it happens in training: 2 000 generated motions, fid and accuracy."""
    import torch

    from kgan_ray.metrics.classifier import Classifier
    from kgan_ray.metrics.frechet import Gaussian, frechet_distance

    gan = ntu60_gan(device)
    classifier = Classifier(gan.spec).to(device).eval()
    labels = torch.arange(2000, device=device) % 60

    @torch.no_grad()
    def evaluate() -> None:
        motions = gan.sample(labels)
        features = torch.cat([classifier.features(part) for part in motions.split(512)])
        classifier.classify(features).argmax(dim=1)
        frechet_distance(Gaussian.of(features), Gaussian.of(features))

    return [("evaluation of 2 000 motions", min(seconds(evaluate, device) for _ in range(ROUNDS)), "s")]


def sampling(device: str) -> list[Row]:
    """Motions a second, truncated."""
    import torch

    gan = ntu60_gan(device)
    labels = torch.arange(1024, device=device) % 60
    gan.sample(labels[:64], truncation=0.95)
    best_peak = max(peak(device) for _ in range(2))
    spent = min(seconds(lambda: gan.sample(labels, truncation=0.95), device) for _ in range(ROUNDS))
    rate = len(labels) / spent
    return [
        ("sampling, truncation 0.95", rate, "motions/s"),
        ("sampling at a peak of 310 GFLOP/s would be", rate * 310 / best_peak, "motions/s"),
    ]


def loading(device: str) -> list[Row]:
    """The share of a step that fetching its batch takes, data on the device."""
    import tempfile

    from kgan_ray.data.prepare.ingest import demo_dataset
    from kgan_ray.settings import DataSettings

    gan = ntu60_gan(device)
    with tempfile.TemporaryDirectory() as folder:
        dataset = demo_dataset(Path(folder) / "demo", num_sequences=600)
        batches = dataset.view(DataSettings()).batches(batch_size=BATCH, seed=0, device=device)
    steps = iter(range(10_000))
    fetch = min(seconds(lambda: batches.batch(next(steps)), device, 50) for _ in range(ROUNDS))
    motions, labels = batches.batch(0)
    gan.step(motions, labels)
    step = min(seconds(lambda: gan.step(motions, labels), device, 5) for _ in range(ROUNDS))
    return [
        ("loading: batches a second", 1 / fetch, ""),
        ("loading: share of a step", 100 * fetch / (fetch + step), "%"),
    ]


def reading(path: str) -> list[Row]:
    """Files a second and core, beside a plain line-by-line reader."""
    from kgan_ray.benchmarks.reading import measure_reading

    found = measure_reading(path)
    return [
        ("reading .skeleton files", found["files_a_second"], "files/s and core"),
        ("reading, plain reader", found["plain_files_a_second"], "files/s and core"),
        ("times as fast as the plain reader", found["times_plain"], ""),
    ]


def workers(device: str, figure: str | None) -> list[Row]:
    """What a second worker gains at the same global batch, each of one thread or GPU; and what the two send."""
    from kgan_ray.benchmarks import scaling

    found = scaling.measure(device)
    rows = [(f"workers: one, batch {share}", 1 / spent, "steps/s") for share, spent in found.seconds.items()]
    if math.isnan(found.together):  # one device
        return rows
    if figure:
        scaling.draw(found, Path(figure))
    return [
        *rows,
        (f"workers: two, batch {scaling.BATCH}", 1 / found.together, "steps/s"),
        ("workers: efficiency of two", found.efficiency, ""),
        ("workers: all-reduces a step", found.traffic.operations, ""),
        ("workers: sent in a step", found.traffic.bytes / 2**20, "MiB"),
        ("workers: an all-reduce of as much", 1e3 * found.all_reduce, "ms"),
    ]


PARTS: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
    "training": lambda options: training(options.device),
    "sampling": lambda options: sampling(options.device),
    "loading": lambda options: loading(options.device),
    "evaluation": lambda options: evaluation(options.device),
    "reading": lambda options: reading(options.files),
    "workers": lambda options: workers(options.device, options.figure),
}


if __name__ == "__main__":
    run_verb(main)
