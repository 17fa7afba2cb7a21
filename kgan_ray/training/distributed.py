"""What several workers do together. With one worker, or without a process group, every function is a no-op."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

T = TypeVar("T")

_group: dist.ProcessGroup | None = None  # None: all of the workers


def take_part(workers: int) -> bool:
    """Let only the first `workers` ranks work together from now on; return whether this is one. All ranks call it."""
    global _group
    _group = None
    if not _together() or workers == dist.get_world_size():
        return True
    _group = dist.new_group(range(workers))
    return dist.get_rank() < workers


def _together() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size(_group) > 1


def end_worker() -> NoReturn:
    """End a spawned worker when all ranks have come here, without closing its interpreter.

    Gloo's threads may still let go of tensors then, which aborts an interpreter that is closing
    (https://github.com/pytorch/pytorch/pull/179291).
    """
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)


def rank() -> int:
    return dist.get_rank(_group) if _together() else 0


def world_size() -> int:
    return dist.get_world_size(_group) if _together() else 1


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average the gradients over all workers with one flat all-reduce. All ranks take part."""
    if not _together():
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    average_tensors(gradients)


def average_tensors(tensors: list[Tensor]) -> None:
    """Average tensors over all workers in place, with one flat all-reduce. All ranks take part."""
    if not _together() or not tensors:
        return
    flat = torch.cat([t.flatten() for t in tensors])
    dist.all_reduce(flat, group=_group)
    flat /= world_size()
    for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def own_rows(batch: Tensor) -> Tensor:
    """Return this worker's rows of a global batch, which is alike on all workers."""
    size = len(batch) // world_size()
    return batch[rank() * size : (rank() + 1) * size]


def own_rows_of_each(stacked: Tensor, num_batches: int) -> Tensor:
    """`stacked` holds `num_batches` global batches; return this worker's rows of each."""
    return torch.cat([own_rows(batch) for batch in stacked.chunk(num_batches)])


class _SumOverWorkers(torch.autograd.Function):
    """All-reduce whose gradient is the all-reduce of the gradients."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x, group=_group)
        return x

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].clone()
        dist.all_reduce(gradient, group=_group)
        return gradient


def sum_over_workers(x: Tensor) -> Tensor:
    """Sum over all workers, differentiably. All ranks take part."""
    return _SumOverWorkers.apply(x) if _together() else x


def gathered(x: Tensor) -> Tensor:
    """Return the rows of all workers, in rank order. All ranks take part."""
    if not _together():
        return x
    parts = [torch.empty_like(x) for _ in range(world_size())]
    dist.all_gather(parts, x.contiguous(), group=_group)
    return torch.cat(parts)


def gathered_at_zero(x: Tensor, counts: Sequence[int]) -> Tensor | None:
    """Return the rows of all workers on rank 0, in rank order, and None elsewhere. Worker r has counts[r].

    All ranks take part.
    """
    if not _together():
        return x
    most = max(counts)
    padded = x.new_zeros(most, *x.shape[1:])
    padded[: len(x)] = x
    parts = [torch.empty_like(padded) for _ in counts] if rank() == 0 else None
    dist.gather(padded, parts, dst=0, group=_group)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)]) if parts else None


def any_rank(value: bool) -> bool:
    """Return whether it is true on any worker. All ranks take part."""
    if not _together():
        return value
    flag = torch.tensor(float(value), device=_device())
    dist.all_reduce(flag, op=dist.ReduceOp.MAX, group=_group)
    return bool(flag.item())


def from_rank_zero(value: T) -> T:
    """Return rank 0's (picklable) value, on all ranks. All ranks take part."""
    if not _together():
        return value
    box: list[T] = [value]
    dist.broadcast_object_list(box, src=0, group=_group, device=_device())
    return box[0]


def _device() -> torch.device:
    """Return where tensors must be for this process group."""
    return (
        torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")
    )
