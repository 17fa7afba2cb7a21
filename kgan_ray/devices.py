"""Which device computes: chosen, named in one line, and why a GPU that is there cannot be used."""

from __future__ import annotations

import gc
import math
import os
import re
import shutil
import subprocess
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kgan_ray.limits import num_cores
from kgan_ray.resources import ResourceSettings
from kgan_ray.settings import Settings, UserError, override

if TYPE_CHECKING:
    import torch

_DRIVER_FILE = Path("/proc/driver/nvidia/version")
_ACCELERATOR = "accelerator_type:"  # begins the name of Ray's resource that says which GPU a node has
_USES_ONE = "--set resources.gpus_per_worker=1 uses one a worker"


def with_devices(settings: Settings, have: Mapping[str, float]) -> Settings:
    """Return the settings with what is "auto" decided, for a cluster that has so many of each of Ray's resources.

    Each worker gets a GPU where the cluster has that many, and a single worker on a GPU launches its steps as a graph.
    """
    gpus, graph = settings.resources.gpus_per_worker, settings.training.cuda_graph
    if gpus == "auto":
        gpus = float(have.get("GPU", 0.0) >= settings.resources.fewest_workers and not unusable_gpu())
    if graph == "auto":
        graph = gpus > 0 and settings.resources.num_workers == 1
    return override(settings, {"resources.gpus_per_worker": gpus, "training.cuda_graph": graph})


def fitting_runs(resources: ResourceSettings, have: Mapping[str, float]) -> float:
    """Return how many runs fit into so many of each of Ray's resources, of workers as few as they may be.

    A run on a part of a GPU has to find that part on one: 4 GPUs hold 12 runs of 0.3 GPUs each, not 13.
    """
    need = resources.needed_by(resources.fewest_workers)
    fit = min(have.get(kind, 0.0) / amount for kind, amount in need.items())
    if 0 < resources.gpus < 1:
        fit = min(fit, math.floor(have.get("GPU", 0.0)) * math.floor(1 / resources.gpus + 1e-9))
    return fit


def line_of_runs(resources: ResourceSettings, runs: int, have: Mapping[str, float]) -> str:
    """Say on which of a cluster's devices so many runs at once compute, and which stay idle."""
    total = int(have.get("GPU", 0.0))
    kinds = sorted(name.removeprefix(_ACCELERATOR) for name in have if name.startswith(_ACCELERATOR))
    kind = " or ".join(kind if kind.startswith(("AMD", "Intel")) else f"NVIDIA {kind}" for kind in kinds) or "GPUs"
    if not resources.gpus:
        cores = min(have.get("CPU", 0.0), runs * resources.devices)
        return _line_of_cores(math.ceil(cores), int(have.get("CPU", 0.0)), _idle(total, kind, _USES_ONE))
    per_gpu = math.floor(1 / resources.gpus + 1e-9)
    used = math.ceil(runs * resources.num_workers / per_gpu)
    return f"on {_of(used, total)} {kind}" + _idle(total - used)


def line_of_device(device: str) -> str:
    """Say on which of this machine's devices one process computes, and which stay idle."""
    import torch

    total = torch.cuda.device_count()
    if device == "cpu":
        kind = torch.cuda.get_device_name(0) if total else ""
        return _line_of_cores(torch.get_num_threads(), num_cores(), _idle(total, kind, "--device cuda uses one"))
    return f"on {_of(1, total)} {torch.cuda.get_device_name(device)}" + _idle(total - 1)


def _line_of_cores(cores: int, total: int, idle: str) -> str:
    no_gpu = "" if idle else unusable_gpu() or "no GPU found"
    return f"on {_of(cores, total)} CPU core{'s' if total > 1 else ''}{idle or f'; {no_gpu}'}"


def _of(number: int, total: int) -> str:
    return str(number) if number >= total else f"{number} of {total}"


def _idle(number: int, kind: str = "", advice: str = "") -> str:
    if number < 1:
        return ""
    which = f"{number} {kind}".rstrip()
    return f"; {which} stay{'s' if number == 1 else ''} idle{f' ({advice})' if advice else ''}"


def usable_device(wanted: str, *, where: str = "--device") -> str:
    """Return the device of that name; of "auto" a GPU, where there is one.

    Raises UserError, which begins with `where`, for one that PyTorch cannot use here.
    """
    is_there = _finds_gpu()
    if wanted == "auto":
        return "cuda" if is_there else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", wanted):
        raise UserError(f"{where} {wanted}: accepted are auto, cpu, cuda and cuda:0, cuda:1, ...")
    if wanted != "cpu" and not is_there:
        raise UserError(f"{where} {wanted}: {unusable_gpu() or 'PyTorch finds no GPU here'}")
    if ":" in wanted:
        import torch

        if int(wanted.partition(":")[2]) >= (count := torch.cuda.device_count()):
            raise UserError(f"{where} {wanted}: the GPUs here are cuda:0 to cuda:{count - 1}")
    return wanted


def unusable_gpu() -> str:
    """Say why PyTorch cannot use this machine's NVIDIA GPU; the empty string where it can, or where there is none."""
    import torch

    is_hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if is_hidden or _finds_gpu() or not (driver := _nvidia_driver()):
        return ""
    here = f"an NVIDIA GPU is here, but PyTorch {torch.__version__} cannot use it"
    if not torch.version.cuda:
        return f"{here}: it is built without CUDA; other builds: https://pytorch.org/get-started/locally/"
    return (
        f"{here}: found driver {driver}, its CUDA {torch.version.cuda} needs {_oldest_driver(torch.version.cuda)} or newer "
        "and a GPU of the Turing generation or newer; "
        "builds for older ones: https://pytorch.org/get-started/previous-versions/"
    )


def _oldest_driver(cuda: str) -> str:
    return {"11": "450", "12": "525"}.get(cuda.partition(".")[0], "580")


def _finds_gpu() -> bool:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a driver that is too old: we say so ourselves
        return torch.cuda.is_available()


def _nvidia_driver() -> str:
    """Return the version of the NVIDIA driver of this machine, or the empty string where there is none."""
    try:
        version = re.search(r"\s(\d+\.\d+[.\d]*)\s", _DRIVER_FILE.read_text(encoding="utf-8"))
        return version.group(1) if version else "unknown"
    except OSError:
        pass
    if not (program := shutil.which("nvidia-smi")):  # where there is no such file: in WSL
        return ""
    query = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        ran = subprocess.run(query, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ran.stdout.splitlines()[0].strip() if ran.returncode == 0 and ran.stdout.strip() else ""


def fastest_precision(device: torch.device) -> Literal["bfloat16", "float32"]:
    """Return bfloat16 for a device that multiplies it in hardware: NVIDIA's from Ampere on, CPUs with AMX or AVX512-BF16."""
    import torch

    if device.type == "cuda":
        in_hardware = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # an older PyTorch has none
        in_hardware = any(has.get(kind) for kind in ("amx_bf16", "avx512_bf16"))
    return "bfloat16" if in_hardware else "float32"


@contextmanager
def products(*, tf32: bool = False) -> Iterator[None]:
    """Within the block, let float32 products on an NVIDIA GPU round their factors to TF32's 10 bits, or not.

    These are switches of the whole process, and cuDNN's convolutions round unless told otherwise: what must be float32
    proper says so, and leaves the switches as they were.
    """
    import torch

    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = tf32
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def forget_earlier_runs(device: str) -> None:
    """Give back what earlier trials of this process left on a GPU, for others that share it, and begin its peak anew.

    Their tensors are gone with them; the allocator keeps their memory, and that of the graphs that were recorded.
    """
    if device == "cpu":
        return
    import torch

    gc.collect()  # a trial that failed may still be held by its traceback
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


@contextmanager
def cpu_threads(number: int) -> Iterator[None]:
    """Let PyTorch compute with so many threads within the block."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
