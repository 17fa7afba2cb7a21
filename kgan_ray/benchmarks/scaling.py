"""What more workers gain: two of them measured against one, and from their times a model of many.

A training step of N workers takes the computation of a worker's share of the batch, and for each thing that they do
together (`Traffic`) an all-reduce. The model of an all-reduce of S bytes over links of B bytes a second and
latency l is 2 ceil(log2 N) l + 2 (N - 1) / N S / B: the trees and rings of NCCL and gloo (Thakur et al., 2005). Nothing
overlaps, as in our step, so the model errs on the slow side where a library overlaps.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from kgan_ray.benchmarks.timing import ntu60_gan, seconds
from kgan_ray.training import distributed
from kgan_ray.training.gan import GAN

BATCH = 32
SHARES = (32, 16, 8, 4)
ROUNDS = 3
LATENCY = 20e-6  # seconds from one host to another


@dataclass(frozen=True)
class Traffic:
    """What a step's workers do together, on average over a cycle of steps."""

    operations: float
    bytes: float


@dataclass(frozen=True)
class Scaling:
    """Times of one process on one thread or device, at NTU-60 shapes and published widths."""

    seconds: Mapping[int, float]  # of a step, by share of the batch
    # Of a step of two workers with half of the batch each; nan where there is one device only.
    together: float
    # Of an all-reduce of as many bytes as a step moves, in one piece, between those two; nan likewise.
    all_reduce: float
    traffic: Traffic

    @property
    def fixed(self) -> float:
        """Seconds of a step that do not depend on the share."""
        return max(0.0, self._line()[1])

    @property
    def per_motion(self) -> float:
        return float(self._line()[0])

    def _line(self) -> np.ndarray:
        shares, seconds = np.array([*self.seconds]), np.array([*self.seconds.values()])
        return np.polyfit(shares, seconds, 1, w=1 / seconds)  # relative errors count

    @property
    def efficiency(self) -> float:
        """Rate of two workers / (2 x the rate of one), at the same global batch."""
        return self.seconds[BATCH] / (2 * self.together)

    def step(self, workers: int, share: float, gigabits: float, speedup: float = 1.0) -> float:
        """Return seconds of a step of `workers` with `share` motions each, on devices `speedup` times as fast as this one."""
        compute = (self.fixed + self.per_motion * share) / speedup
        if workers == 1:
            return compute
        waiting = self.traffic.operations * 2 * math.ceil(math.log2(workers)) * LATENCY
        return compute + waiting + 2 * (workers - 1) / workers * self.traffic.bytes / (gigabits * 1e9 / 8)


def measure(device: str = "cpu") -> Scaling:
    """Measure one worker at several shares, and two together. On CUDA the two need two GPUs."""
    _one_thread(device)
    alone = {share: _step_seconds(ntu60_gan(device), share, device) for share in SHARES}
    processes = 2 if device == "cpu" else min(2, torch.cuda.device_count())
    if processes < 2:
        return Scaling(alone, math.nan, math.nan, Traffic(math.nan, math.nan))
    with tempfile.TemporaryDirectory() as folder:
        spawn(_work_together, args=(folder, device), nprocs=2)
        together, all_reduce, traffic = torch.load(f"{folder}/measured")
    return Scaling(alone, together, all_reduce, Traffic(**traffic))


def _one_thread(device: str) -> None:
    if device == "cpu":
        torch.set_num_threads(1)


def _cycle(gan: GAN, share: int) -> Callable[[], None]:
    """Return what runs a cycle of discriminator steps, with their generator step, on a batch of `share` motions."""
    motions, labels = (
        torch.rand(share, 3, 64, 25, device=gan.device) * 2 - 1,
        torch.arange(share, device=gan.device),
    )

    def run() -> None:
        for _ in range(gan.settings.training.n_critic):
            gan.step(motions, labels)

    return run


def _step_seconds(gan: GAN, share: int, device: str) -> float:
    """Measure seconds of a step, in the fastest of several cycles."""
    run = _cycle(gan, share)
    run()
    return min(seconds(run, device) for _ in range(ROUNDS)) / gan.settings.training.n_critic


def _work_together(rank: int, folder: str, device: str) -> None:
    _one_thread(device)
    own = device if device == "cpu" else f"cuda:{rank}"
    backend = "gloo" if device == "cpu" else "nccl"
    dist.init_process_group(backend, init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    gan = ntu60_gan(own)
    together = _step_seconds(gan, BATCH // 2, own)
    traffic = _traffic(gan)
    flat = torch.zeros(int(traffic.bytes // 4), device=own)
    dist.all_reduce(flat)
    all_reduce = min(seconds(lambda: dist.all_reduce(flat), own) for _ in range(ROUNDS))
    if rank == 0:
        torch.save((together, all_reduce, asdict(traffic)), f"{folder}/measured")
    distributed.end_worker()


def _traffic(gan: GAN) -> Traffic:
    """Count what a cycle of steps sends, by standing between the step and `torch.distributed`."""
    sent: list[int] = []
    original = dist.all_reduce

    def counted(tensor: torch.Tensor, *arguments: Any, **options: Any) -> object:
        sent.append(tensor.nbytes)
        return original(tensor, *arguments, **options)

    run, cycle = _cycle(gan, BATCH // 2), gan.settings.training.n_critic
    dist.all_reduce = counted
    try:
        run()
    finally:
        dist.all_reduce = original
    return Traffic(len(sent) / cycle, sum(sent) / cycle)


def draw(
    measured: Scaling,
    path: Path,
    *,
    speedups: Sequence[float] = (1, 100),
    networks: Sequence[float] = (10, 100, 400),
) -> None:
    """Write a figure: motions a second of N workers over those of one, for devices and networks of several speeds.

    Left of each pair the published batch of 32 is shared (no more than 32 can), right every worker has 32 motions.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.4 * len(speedups)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(speedups), 2, squeeze=False)
    for row, speedup in zip(panels, speedups, strict=True):
        device = "one core measured here" if speedup == 1 else f"a device {speedup:g} times as fast (assumed)"
        for axes, is_shared in zip(row, (True, False), strict=True):
            workers = [2**power for power in range(6 if is_shared else 10)]
            one = measured.step(1, BATCH, networks[0], speedup)
            for gigabits in networks:
                shares = [BATCH / number if is_shared else BATCH for number in workers]
                steps = [
                    measured.step(n, share, gigabits, speedup) for n, share in zip(workers, shares, strict=True)
                ]
                gains = [
                    n * share / BATCH * one / step for n, share, step in zip(workers, shares, steps, strict=True)
                ]
                axes.plot(workers, gains, marker="o", markersize=3, label=f"{gigabits:g} Gb/s")
            axes.plot(workers, workers, color="0.6", linestyle=":", label="as many times")
            axes.set_xscale("log", base=2)
            axes.set_yscale("log", base=2)
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter("{x:g}")
            axes.set(
                xlabel="workers",
                ylabel="motions a second, of N / of one",
                title=f"{device}\n{'32 motions in all (published)' if is_shared else '32 motions a worker'}",
            )
            axes.grid(visible=True, alpha=0.3)
            axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)
