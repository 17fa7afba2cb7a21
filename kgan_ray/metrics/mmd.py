"""Maximum mean discrepancy between real and generated motions of each class.

Shapes: n motions (n, C, T, V). The kernel is exp(-d^2 / h) with h = 10^-4 .. 10^9; the largest discrepancy over h
counts, averaged over classes. "avg" compares frame by frame and averages over frames, "seq" compares whole
sequences (Wang et al., AAAI 2020, arXiv 1912.10150, whose widths these are).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from kgan_ray.metrics.features import blocks, in_parallel, warn_of_few

if TYPE_CHECKING:
    from kgan_ray.metrics.sides import Motions

WIDTHS = tuple(10.0**exponent for exponent in range(-4, 10))  # h
_CELLS = 2**17  # of a kernel matrix at a time: 1 MiB stays in a processor's cache
Within = dict[int, Tensor]  # per class: sums of k - 1 over pairs of real motions, (sets of samples, 14)
PublishedMode = Literal["avg", "seq"]


def frame_discrepancies(
    real: Tensor,
    real_labels: Tensor,
    generated: Tensor,
    generated_labels: Tensor,
    within: Within | None = None,
    device: torch.device | None = None,
) -> dict[int, float]:
    """Compute for each class sqrt(max(MMD^2, 0)) frame by frame, averaged over frames, the largest over h.

    MMD^2 is the unbiased U-statistic over all motions of the class; a frame (C * V values) is a sample.
    Classes with fewer than two motions on either side are left out. `within` keeps what
    depends on the real motions alone: give the same dictionary again for the same real motions. `device` computes; None:
    that of the generated motions.
    """
    return _per_class(real, real_labels, generated, generated_labels, _frames, within, device)


def sequence_discrepancies(
    real: Tensor,
    real_labels: Tensor,
    generated: Tensor,
    generated_labels: Tensor,
    within: Within | None = None,
    device: torch.device | None = None,
) -> dict[int, float]:
    """Compute for each class sqrt(max(MMD^2, 0)) between whole sequences (C * T * V values), the largest over h."""
    return _per_class(real, real_labels, generated, generated_labels, _sequences, within, device)


def mmd_avg(real: Motions, generated: Motions) -> dict[str, float]:
    per_class = frame_discrepancies(
        real.values, real.labels, generated.values, generated.labels, real.once(_within_frames), generated.device
    )
    return {"mmd_avg": _mean(per_class, generated)}


def mmd_seq(real: Motions, generated: Motions) -> dict[str, float]:
    per_class = sequence_discrepancies(
        real.values,
        real.labels,
        generated.values,
        generated.labels,
        real.once(_within_sequences),
        generated.device,
    )
    return {"mmd_seq": _mean(per_class, generated)}


def _within_frames(real: Motions) -> Within:
    return {}  # filled class by class


def _within_sequences(real: Motions) -> Within:
    return {}


def _mean(per_class: Mapping[int, float], generated: Motions) -> float:
    if not per_class:
        raise ValueError("no class has two motions on both sides")
    left_out = len(generated.labels.unique()) - len(per_class)
    if left_out:
        warn_of_few(f"{left_out} classes with fewer than two motions on a side are left out")
    return sum(per_class.values()) / len(per_class)


def _frames(motions: Tensor) -> Tensor:
    return motions.permute(2, 0, 1, 3).flatten(2)  # (T, n, C * V)


def _sequences(motions: Tensor) -> Tensor:
    return motions.flatten(1)[None]  # (1, n, C * T * V)


def _per_class(
    real: Tensor,
    real_labels: Tensor,
    generated: Tensor,
    generated_labels: Tensor,
    samples_of: Callable[[Tensor], Tensor],
    within: Within | None,
    device: torch.device | None,
) -> dict[int, float]:
    within_real = {} if within is None else within
    where = device or generated.device  # a class at a time: the motions may lie elsewhere

    def of_class(label: int) -> tuple[int, float]:
        x = real[real_labels == label].to(where).double()
        y = generated[generated_labels == label].to(where).double()
        centre = x.mean(dim=0)  # distances do not change, their rounding shrinks
        xs, ys = samples_of(x.sub_(centre)), samples_of(y.sub_(centre))
        if label not in within_real:
            within_real[label] = torch.stack([_sums(a, a) for a in xs])
        squared = torch.stack([_squared(own, a, b) for own, a, b in zip(within_real[label], xs, ys, strict=True)])
        return label, squared.clamp(min=0).sqrt().mean(dim=0).max().item()

    counts = [labels.bincount(minlength=1).tolist() for labels in (real_labels, generated_labels)]
    enough = [label for label, pair in enumerate(zip(*counts, strict=False)) if min(pair) > 1]
    return dict(in_parallel(of_class, enough, where))


def _squared(within_x: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Compute the unbiased MMD^2 of (n, D) and (m, D) samples for each of WIDTHS, (14,). May be negative."""
    n, m = len(x), len(y)
    return within_x / (n * (n - 1)) + _sums(y, y) / (m * (m - 1)) - 2 * _sums(x, y) / (n * m)


def _sums(x: Tensor, y: Tensor) -> Tensor:
    """Sum k - 1 over pairs for each width: the ones cancel in MMD^2, and with them wide kernels' rounding.

    A pair of a sample with itself adds k - 1 = 0, so the sum over x with x is that over different samples.
    """
    sums = torch.zeros(len(WIDTHS), dtype=torch.float64, device=x.device)
    norms = y.square().sum(dim=1)
    for rows in blocks(len(x), max(1, _CELLS // max(len(y), 1))):
        block = x[rows]
        if x is not y:
            sums += _sums_of_kernels(_squared_distances(block, block.square().sum(dim=1), y, norms))
            continue
        # A kernel matrix is symmetric: what is right of the diagonal block counts twice.
        square = _squared_distances(block, norms[rows], block, norms[rows])
        square.diagonal().zero_()
        sums += _sums_of_kernels(square)
        rest = slice(rows.stop, None)
        sums += 2 * _sums_of_kernels(_squared_distances(block, norms[rows], y[rest], norms[rest]))
    return sums


def _sums_of_kernels(squared: Tensor) -> Tensor:
    """Sum exp(-d^2 / h) - 1 for each h, (14,).

    Where all d^2 are below h / 100 by the first six powers of d^2 / h, whose error is below 1e-15 of the sum; where
    all are above 40 h the kernel is 0 in float64.
    """
    sums = torch.zeros(len(WIDTHS), dtype=torch.float64, device=squared.device)
    if not squared.numel():
        return sums
    least, most = (bound.item() for bound in squared.aminmax())
    scratch = torch.empty_like(squared)
    powers: list[Tensor] = []
    for index, width in enumerate(WIDTHS):
        if least > 40 * width:
            sums[index] = -squared.numel()
        elif most < width / 100:
            powers = powers or _power_sums(squared, most)
            for number, power in enumerate(powers, start=1):
                sums[index] += (-most / width) ** number / math.factorial(number) * power
        else:
            torch.mul(squared, -1 / width, out=scratch)
            sums[index] = scratch.expm1_().sum()
    return sums


def _power_sums(squared: Tensor, most: float) -> list[Tensor]:
    """Sum (d^2 / most)^p for p = 1 to 6."""
    if not most:
        return [squared.new_zeros(())]
    relative = squared / most
    power, sums = relative.clone(), [relative.sum()]
    for _ in range(5):
        power.mul_(relative)
        sums.append(power.sum())
    return sums


def _squared_distances(x: Tensor, norms_x: Tensor, y: Tensor, norms_y: Tensor) -> Tensor:
    squared = torch.addmm(norms_y, x, y.T, alpha=-2)
    return squared.add_(norms_x[:, None]).clamp_(min=0)


def published_mmd(real: Mapping[int, Tensor], generated: Mapping[int, Tensor], *, mode: PublishedMode) -> float:
    """Compute what the script published with Kinetic-GAN does, quirks and all.

    It looks at the FIRST motion of each class only, real and generated (C, T, V), whose V joints act as the
    samples: so it cannot see mode collapse. The estimate sqrt(sum over i != j of kxx + kyy - 2 kxy / (V (V - 1)))
    leaves out the pairs (x_i, y_i), so its square can be negative; the root is then NaN, which loses every
    comparison for the largest h and vanishes. A class that is NaN at all h counts as 0.
    """
    values = [_published_pair(real[label].double(), generated[label].double(), mode) for label in sorted(real)]
    return sum(values) / len(values)


def _published_pair(real: Tensor, generated: Tensor, mode: PublishedMode) -> float:
    largest = 0.0
    for width in WIDTHS:
        if mode == "avg":  # T samples sets of V joints with C coordinates
            x, y = (motion.permute(1, 2, 0) for motion in (real, generated))
        else:  # one set of V joints with T * C values
            x, y = (motion.permute(2, 1, 0).flatten(1)[None] for motion in (real, generated))
        value = _published_estimate(x, y, width).sqrt().mean().item()
        if not math.isnan(value):
            largest = max(largest, value)
    return largest


def _published_estimate(x: Tensor, y: Tensor, width: float) -> Tensor:
    """Compute the estimate's square, (batch,), of (batch, V, D) samples."""
    h = _kernel(x, x, width) + _kernel(y, y, width) - 2 * _kernel(x, y, width)
    num = x.shape[1]
    return (h.sum(dim=(1, 2)) - h.diagonal(dim1=1, dim2=2).sum(dim=1)) / (num * (num - 1))


def _kernel(x: Tensor, y: Tensor, width: float) -> Tensor:
    return torch.exp(-(x[:, :, None] - y[:, None]).square().sum(dim=-1) / width)


def mmd_avg_published(real: Motions, generated: Motions) -> dict[str, float]:
    return {"mmd_avg_published": _published(real, generated, "avg")}


def mmd_seq_published(real: Motions, generated: Motions) -> dict[str, float]:
    return {"mmd_seq_published": _published(real, generated, "seq")}


def _published(real: Motions, generated: Motions, mode: PublishedMode) -> float:
    firsts = [_first_of_each_class(side) for side in (real, generated)]
    shared = firsts[0].keys() & firsts[1].keys()
    pair = ({label: first[label] for label in shared} for first in firsts)
    return published_mmd(*pair, mode=mode)


def _first_of_each_class(side: Motions) -> dict[int, Tensor]:
    return {
        label: side.values[int(torch.nonzero(side.labels == label)[0, 0])].cpu()
        for label in side.labels.unique().tolist()
    }
