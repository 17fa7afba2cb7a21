"""All that a GPU should be asked, in one table: the part "gpu" of the verb benchmark.

It measures each way to train, trials at once, memory and kernels. It checks that a graph trains as single launches do,
and that a checkpoint goes from the GPU to a CPU and back. With another `Extent` it can be tried out on a CPU.
"""

from __future__ import annotations

import itertools
import json
import math
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import BrokenBarrierError
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.multiprocessing.spawn import ProcessException, spawn

from kgan_ray.benchmarks.rows import Row
from kgan_ray.benchmarks.steps import BATCH, literal_step, random_batch
from kgan_ray.benchmarks.timing import ntu60_gan, peak_memory, seconds, use_device
from kgan_ray.devices import forget_earlier_runs
from kgan_ray.storage import StorePath
from kgan_ray.training.checkpoint import read_checkpoint, restore, write_checkpoint
from kgan_ray.training.gan import GAN

if TYPE_CHECKING:
    from multiprocessing.synchronize import Barrier

Changes = Mapping[str, object]

_SECONDS_TO_BEGIN = 300.0  # of trials, before one is given up


@dataclass(frozen=True)
class Extent:
    """How much is measured. A test measures less."""

    widths: Sequence[float] = (1.0, 0.25)
    launches: Sequence[str] = ("eager", "graph")  # the last one is that of trials at once
    precisions: Sequence[str] = ("float32", "tf32", "bfloat16")
    num_trials: Sequence[int] = (1, 2, 4, 8)
    seconds: float = 5.0  # that trials at once run
    compared_steps: int = 500
    cycles: int = 4  # of steps, that are timed together
    rounds: int = 3  # of which the fastest counts


def measure_gpu(device: str, extent: Extent = Extent()) -> list[Row]:
    """Measure training on the device, at the shapes of NTU-60 and batch 32."""
    width: Changes = {"model.width": extent.widths[0]}
    return [
        *_ways_to_train(device, extent),
        *trials_at_once(device, extent),
        *_kernels_of_a_step(ntu60_gan(device, width), device),
        *_launches_compared(device, width, extent),
        *_checkpoint_there_and_back(device, width),
    ]


def _changes(width: float, launch: str, precision: str = "float32") -> Changes:
    return {
        "model.width": width,
        "training.cuda_graph": launch == "graph",
        "training.precision": precision,
    }


def _ways_to_train(device: str, extent: Extent) -> list[Row]:
    """Measure steps a second and memory of each way, and of the published step, written down literally."""
    rows, rates = [], {}
    for width, precision, launch in itertools.product(extent.widths, extent.precisions, extent.launches):
        forget_earlier_runs(device)
        rate = _steps_per_second(ntu60_gan(device, _changes(width, launch, precision)), device, extent)
        what = f"width {width:g}, {precision}, {launch}"
        rates[what] = rate
        rows += [
            Row(what, rate, "steps/s", f"{launch}_{precision}_width_{width:g}_steps_per_second"),
            Row("   memory", peak_memory(device) / 2**20, "MiB"),
        ]
    literal = literal_step(ntu60_gan(device), *random_batch(device))
    seconds(literal, device)
    rate = 1 / min(seconds(literal, device, extent.cycles) for _ in range(extent.rounds))
    published = [what for what in rates if what.startswith(f"width {extent.widths[0]:g},")]
    return [
        *rows,
        Row("literal step, eager, TF32 where PyTorch has it so", rate, "steps/s", "literal_steps_per_second"),
        *(Row(f"times the literal step: {what}", rates[what] / rate) for what in published),
    ]


def _steps_per_second(gan: GAN, device: str, extent: Extent) -> float:
    """Measure whole cycles of steps, in the fastest of several rounds."""
    step, cycle = _step_of(gan), gan.settings.training.n_critic
    seconds(step, device, cycle)
    return 1 / min(seconds(step, device, extent.cycles * cycle) for _ in range(extent.rounds))


def _step_of(gan: GAN) -> Callable[[], object]:
    motions, labels = random_batch(gan.device)
    return lambda: gan.step(motions, labels)


def trials_at_once(device: str, extent: Extent) -> list[Row]:
    """Measure the steps a second of one, two and more processes that train on the device at the same time."""
    rows = []
    for width, number in itertools.product(extent.widths, extent.num_trials):
        with tempfile.TemporaryDirectory() as folder:
            barrier = multiprocessing.get_context("spawn").Barrier(number)
            changes = _changes(width, extent.launches[-1])
            try:
                spawn(_train_at_once, args=(folder, device, changes, extent.seconds, barrier), nprocs=number)
                rate = sum(json.loads(file.read_text()) for file in Path(folder).iterdir())
            except ProcessException:  # most likely the device has too little memory for so many
                rate = math.nan
        what = f"width {width:g}, {extent.launches[-1]}: {number} trials at once"
        rows.append(Row(what, rate, "steps/s in all", f"{number}_trials_width_{width:g}_steps_per_second"))
    return rows


def _train_at_once(
    rank: int, folder: str, device: str, changes: Changes, duration: float, barrier: Barrier
) -> None:
    """Train in one of several processes, and leave behind how many steps a second it made."""
    torch.set_num_threads(1)
    use_device(device)
    gan = ntu60_gan(device, changes)
    step, cycle, count = _step_of(gan), gan.settings.training.n_critic, 0
    try:
        seconds(step, device, cycle)
        barrier.wait(_SECONDS_TO_BEGIN)
    except BrokenBarrierError:
        return
    except BaseException:
        barrier.abort()
        raise
    started = time.perf_counter()
    while (spent := time.perf_counter() - started) < duration or not count:
        seconds(step, device, cycle)
        count += cycle
    Path(folder, str(rank)).write_text(json.dumps(count / spent))


def _kernels_of_a_step(gan: GAN, device: str) -> list[Row]:
    """Count what PyTorch's profiler sees the device do in a step of either kind, each launched by itself."""
    step, counts = _step_of(gan), []
    seconds(step, device, gan.settings.training.n_critic)  # the next one brings a generator step
    for _ in range(2):
        with torch.profiler.profile() as profile:
            seconds(step, device)
        events = [event for event in profile.events() or () if event.device_type.name == "CUDA"]
        names = [event.name for event in events if not event.is_user_annotation]
        counts.append((len(names), sum("HtoD" in name or "DtoH" in name for name in names)))
    (with_generator, _), (alone, copies) = counts
    return [
        Row("kernels of a discriminator step", alone, name="kernels_of_a_discriminator_step"),
        Row("   with a generator step", with_generator, name="kernels_with_a_generator_step"),
        Row("   copies from or to the host", copies),
    ]


def _launches_compared(device: str, width: Changes, extent: Extent) -> list[Row]:
    """Train the same steps as a graph and launch by launch: how far apart are the weights in the end?

    Convolutions are chosen once and are deterministic, so 0 is to be expected. Launches are compared with themselves too.
    """
    graphs = ("graph" in extent.launches, False, False)
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=True):
        recorded, eager, again = (
            _trained(ntu60_gan(device, {**width, "training.cuda_graph": graph}), extent.compared_steps)
            for graph in graphs
        )
    what = f"largest difference of a weight after {extent.compared_steps} steps"
    return [
        Row(f"{what}: graph, eager", _difference(recorded, eager), name="graph_differs_from_eager_by"),
        Row("   eager, eager once more", _difference(eager, again), name="eager_differs_from_itself_by"),
    ]


def _trained(gan: GAN, steps: int) -> dict[str, Tensor]:
    """Return the weights after so many steps, on batches that are always the same."""
    batches = [random_batch(gan.device, seed) for seed in range(8)]
    for step in range(steps):
        gan.step(*batches[step % len(batches)])
    return _weights(gan)


def _weights(gan: GAN) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in gan.state_dict()["weights"].items()}


def _difference(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def _checkpoint_there_and_back(device: str, width: Changes) -> list[Row]:
    """Take a checkpoint from the device to a CPU and back, with steps on either, and compare both sides of each crossing."""
    gan, labels = ntu60_gan(device, width), torch.arange(BATCH)
    losses: list[Tensor] = []
    weights, motions = 0.0, 0.0
    with tempfile.TemporaryDirectory() as scratch:
        for place in ("cpu", device):
            losses += gan.step(*random_batch(gan.device)).values()
            folder = StorePath(scratch) / f"to-{place}"
            write_checkpoint(folder, gan, {"step": gan.step_count, "metrics": {}, "dataset": "none"})
            crossed = GAN(gan.settings, gan.spec, place)
            restore(crossed, read_checkpoint(folder))
            weights = max(weights, _difference(_weights(gan), _weights(crossed)))
            moved = gan.sample(labels).cpu() - crossed.sample(labels).cpu()
            motions, gan = max(motions, float(moved.abs().max())), crossed
    losses += gan.step(*random_batch(gan.device)).values()
    not_finite = sum(not math.isfinite(float(loss)) for loss in losses)
    return [
        Row("checkpoint to a CPU and back: weights change by", weights, name="checkpoint_changes_by"),
        Row("   the same seed's motions differ by", motions, name="motions_differ_by"),
        Row("   losses that are not finite", not_finite, name="losses_not_finite"),
    ]
