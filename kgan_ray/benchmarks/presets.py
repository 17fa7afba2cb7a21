"""Steps a second at the shapes of presets, in float32 and bfloat16, and what share of the device's peak they reach."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from math import inf
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from kgan_ray.benchmarks.rows import Row
from kgan_ray.benchmarks.timing import peak, seconds, shapes_of
from kgan_ray.devices import products
from kgan_ray.presets import PRESETS
from kgan_ray.settings import Settings, override
from kgan_ray.skeleton import LAYOUTS
from kgan_ray.training.gan import GAN

DATA = {"demo": ("ntu25", 12), "ucla-xview": ("ucla20", 10), "ntu60-xsub": ("ntu25", 60)}  # layout, classes
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
ROUNDS = 3


class ProductFlops(TorchDispatchMode):
    """Counts the floating point operations of matrix products and convolutions within.

    PyTorch's FlopCounterMode follows modules too, and so refuses `torch.autograd.grad`.
    """

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket is torch.ops.aten.addmm_:
            self.total += 2 * args[1].numel() * args[2].shape[1]
        elif count := flop_registry.get(func.overloadpacket):
            self.total += count(*args, **(kwargs or {}), out_val=result)
        return result


def measure_presets(device: str, changes: Mapping[str, object] | None = None) -> list[Row]:
    """Measure each preset's steps a second and GFLOP/s, beside matrix products, in turns; `changes` to its settings go last."""
    best_peak = dict.fromkeys(PRECISIONS, 0.0)
    work, cycles, flops, best = {}, {}, {}, {}
    for name, (layout, num_classes) in DATA.items():
        for precision in PRECISIONS:
            settings = override(Settings(), {**PRESETS[name], "training.precision": precision, **(changes or {})})
            spec = shapes_of(LAYOUTS[layout], num_classes, settings.data.frames)
            size, key = settings.training.batch_size, (name, precision)
            motions = torch.rand(size, *spec.shape, device=device) * 2 - 1
            labels = torch.arange(size, device=device) % num_classes
            work[key] = partial(GAN(settings, spec, device).step, motions, labels)
            cycles[key], best[key] = settings.training.n_critic, inf
            with ProductFlops() as counter:
                seconds(work[key], device, cycles[key])  # the first cycle warms up
            flops[key] = counter.total / cycles[key]
    for _ in range(ROUNDS):
        for precision, dtype in PRECISIONS.items():
            with products():
                best_peak[precision] = max(best_peak[precision], peak(device, dtype))
        for key, step in work.items():
            best[key] = min(best[key], seconds(step, device, cycles[key]))
    rows = [Row(f"matrix-product peak, {name}", best_peak[name], "GFLOP/s") for name in PRECISIONS]
    for (name, precision), spent in best.items():
        rate, what = 1e-9 * flops[name, precision] / spent, f"{name}, {precision}"
        rows.append(Row(f"training, {what}", 1 / spent, "steps/s"))
        rows.append(Row(f"training, {what}: products", rate, "GFLOP/s"))
        rows.append(Row(f"training, {what}: of its peak", 100 * rate / best_peak[precision], "%"))
    return rows
