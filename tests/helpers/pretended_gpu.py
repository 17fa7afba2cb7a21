"""A GPU that is only pretended, for machines without one: what work on it would launch, copy, wait for and refuse.

Its tensors lie on PyTorch's device `meta`: they have shapes and no values, so what needs a value on the host (`.item()`,
a boolean mask) raises. Within `ComputesOnHost` they have values too, and raise where they meet the host's. What it cannot
show: memory, speed, kernels, the recording of a graph itself.
"""

from collections import Counter
from contextlib import contextmanager

import torch
from torch.optim import optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from kgan_ray.training.captured import CapturedStep, TrainedState
from kgan_ray.training.gan import GAN

PRETENDED = torch.device("meta")

# PyTorch's fused Adam has a kernel for it with a rate that is a number, none with one that lies on the device.
_KERNELS = torch.library.Library("aten", "IMPL", "Meta")
_KERNELS.impl("_fused_adam_.tensor_lr", lambda *args, **kwargs: None)

# These give another view of memory, or memory that is still to be written, or only mark a place for a profiler.
LAUNCHES_NOTHING = frozenset(
    "view _unsafe_view reshape permute transpose t expand slice select unsqueeze squeeze detach alias as_strided "
    "split split_with_sizes unbind unfold diagonal _reshape_alias "
    "empty empty_like empty_strided new_empty new_empty_strided "
    "_record_function_enter_new _record_function_exit".split()
)


class GeneratorAnywhere(torch.Generator):
    """A random generator that may say it is on the pretended GPU."""

    device = None

    def __new__(cls, device="cpu"):
        random = super().__new__(cls)
        random.device = torch.device(device)
        return random


class Launches(TorchDispatchMode):
    """Counts the operations on one device by name, and those that take anything from another or from a Python list."""

    def __init__(self, device=PRETENDED):
        super().__init__()
        self.device, self.operations, self.crossings = device, Counter(), Counter()
        # Kept, so that none's id is given to another tensor; a float that is kept would be a gradient that is copied.
        self._whole_numbers = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
        if any(tensor.device != self.device for tensor in tensors) or self._takes_a_list(name, args):
            self.crossings[name] += 1
        elif name not in LAUNCHES_NOTHING:
            self.operations[name] += 1
        results = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        self._whole_numbers += [tensor for tensor in results if not tensor.is_floating_point()]
        return result

    def _takes_a_list(self, name, args):
        """Say whether a tensor was made of Python's numbers, which no operation tells: no operation made it."""
        made = {id(tensor) for tensor in self._whole_numbers}
        indices = [index for index in args[1] if index is not None] if name == "index" else []
        return name == "lift_fresh" or any(id(index) not in made for index in indices)


class DevicesMixedError(RuntimeError):
    """What a GPU would refuse: a tensor of its own together with one of the host's."""


class TensorOnGPU(torch.Tensor):
    """A tensor that says it is on the pretended GPU, and has its values on the host."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, values):
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=PRETENDED,
        )
        made.values = values
        return made

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return computed_on_host(func, args, kwargs or {})

    def numpy(self, **options):
        raise DevicesMixedError("a GPU's tensor has no numpy")

    def tolist(self):
        return self.values.tolist()


class ComputesOnHost(TorchDispatchMode):
    """Lets what is made and computed on the pretended GPU have values: those of the same work on the host."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return computed_on_host(func, args, kwargs or {})


def computed_on_host(func, args, kwargs):
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    there = [tensor for tensor in tensors if isinstance(tensor, TensorOnGPU)]
    here = [tensor for tensor in tensors if not isinstance(tensor, TensorOnGPU)]
    name = func.overloadpacket.__name__
    may_mix = name in ("_to_copy", "copy_") or (name == "index" and isinstance(args[0], TensorOnGPU))
    if there and any(tensor.dim() for tensor in here) and not may_mix:
        raise DevicesMixedError(f"{func}: {len(there)} tensors on the GPU meet {len(here)} on the host")
    stays_there = isinstance(args[0], TensorOnGPU) if name == "copy_" else bool(there)
    if kwargs.get("device") is not None:
        stays_there = torch.device(kwargs["device"]) == PRETENDED
        kwargs = {**kwargs, "device": torch.device("cpu")}
    result = func(*tree_map(values_of, args), **tree_map(values_of, kwargs))
    written = {id(tensor.values): tensor for tensor in there}  # an operation in place returns what it was given

    def placed(leaf):
        if not isinstance(leaf, torch.Tensor) or not stays_there:
            return leaf
        return written[id(leaf)] if id(leaf) in written else TensorOnGPU(leaf)

    return tree_map(placed, result)


def values_of(leaf):
    return leaf.values if isinstance(leaf, TensorOnGPU) else leaf


@contextmanager
def pretended_gpu(monkeypatch):
    """Let a GAN be on the pretended GPU within."""
    with monkeypatch.context() as patch:
        patch.setattr(torch, "Generator", GeneratorAnywhere)
        patch.setattr(optimizer, "_get_fused_kernels_supported_devices", lambda: [PRETENDED.type])
        yield


def rehearse_and_repeat(work, state: TrainedState):
    """What recording does, less the GPU: a rehearsal that is taken back, then the same work at every replay."""
    state.rehearse(work, 3)
    return work


def captured(gan: GAN, record=rehearse_and_repeat) -> CapturedStep:
    """Return the GAN's step as it is recorded, less the GPU."""
    networks = [gan.generator, gan.discriminator, *([gan.average] if gan.average else [])]
    optimisers = [gan.generator_adam, gan.discriminator_adam]
    state = TrainedState(networks, optimisers, [gan.draws.random, gan.draws.technique_random])
    return CapturedStep(state, record)
