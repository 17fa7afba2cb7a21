"""The training step as a CUDA graph: recorded once, then launched whole, both optimisers included.

A step of this model is some hundreds of small kernels, and launching them one by one is what a fast GPU waits for. A
graph holds them all, so a step costs one launch. There are two: discriminator steps that bring a generator step, and
those that do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Metrics = dict[str, Tensor]
Work = Callable[[Tensor, Tensor, bool], Metrics]  # motions, labels, whether the generator steps too
Replay = Callable[[], None]
_WARM_UP_STEPS = 3  # libraries choose their algorithms and allocate what they keep before anything is recorded


@dataclass
class TrainedState:
    """Every tensor and random generator that a step changes."""

    networks: Sequence[nn.Module]
    optimisers: Sequence[torch.optim.Optimizer]
    generators: Sequence[torch.Generator]

    def tensors(self) -> Iterator[Tensor]:
        """Yield each once."""
        for network in self.networks:
            yield from network.parameters()
            yield from network.buffers()
        for optimiser in self.optimisers:
            for moments in optimiser.state.values():
                yield from (value for value in moments.values() if isinstance(value, Tensor))

    @torch.no_grad()
    def rehearse(self, work: Callable[[], None], times: int) -> None:
        """Do `work` several times and put everything back in place, so that a recording finds each tensor where it will stay.

        What an optimiser keeps and had not made before, its moments and its count of steps, starts at zero.
        """
        before = {id(tensor): tensor.clone() for tensor in self.tensors()}
        states = [generator.get_state() for generator in self.generators]
        with torch.enable_grad():
            for _ in range(times):
                work()
        for tensor in self.tensors():
            tensor.copy_(before.get(id(tensor), torch.zeros_like(tensor)))
        for generator, state in zip(self.generators, states, strict=True):
            generator.set_state(state)
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)


def record_cuda_graph(work: Callable[[], None], state: TrainedState) -> Replay:
    """Record `work` on the current device, with the fastest of cuDNN's convolutions, which the rehearsal tries out.

    Raises RuntimeError where it does what a graph cannot hold.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, True
    try:
        with torch.cuda.stream(side):
            state.rehearse(work, _WARM_UP_STEPS)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        for generator in state.generators:
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph):
            work()
    finally:
        torch.backends.cudnn.benchmark = before
    return graph.replay


class CapturedStep:
    """A step that is recorded at its first call of either kind and replayed at every later one.

    The metrics that it returns are overwritten by the next step of their kind. `record` makes the recording; tests
    give one that needs no GPU. It keeps no reference to the work itself, whose owner keeps this: the graphs' memory
    is free as soon as the owner is gone.
    """

    def __init__(
        self,
        state: TrainedState,
        record: Callable[[Callable[[], None], TrainedState], Replay] = record_cuda_graph,
    ) -> None:
        self._state, self._record = state, record
        self._inputs: tuple[Tensor, Tensor] | None = None
        self._recorded: dict[bool, tuple[Replay, Metrics]] = {}

    def __call__(self, work: Work, motions: Tensor, labels: Tensor, with_generator: bool) -> Metrics:
        """Take a step of these motions and labels, which have the same shapes at every call; `work` is what it does."""
        if self._inputs is None:
            self._inputs = motions.clone(), labels.clone()
        inputs = self._inputs
        torch._foreach_copy_(inputs, (motions, labels))
        if with_generator not in self._recorded:
            metrics: Metrics = {}
            replay = self._record(lambda: metrics.update(work(*inputs, with_generator)), self._state)
            self._recorded[with_generator] = replay, metrics
        replay, metrics = self._recorded[with_generator]
        replay()
        return metrics
