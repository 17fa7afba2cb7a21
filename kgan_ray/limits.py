"""What this process may use of its machine: less than the machine has, in a container, under a scheduler or taskset.

And that it keeps the memory that it has got.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LARGEST_MMAP_THRESHOLD = 32 << 20  # what glibc accepts


def num_cores() -> int:
    """Return how many CPU cores this process may use, at least 1: of its affinity mask and its cgroup's quota the fewer."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = (quota for folder in _cgroups("cpu") for quota in _quota_of(folder))
    return max(1, int(min([cores, *quotas])))


def memory_limit() -> int:
    """Return the bytes of memory that this process may use, all of its cgroups regarded, as may be more than there are."""
    limits = (limit for folder in _cgroups("memory") for limit in _limit_of(folder))
    return min(limits, default=sys.maxsize)


def _cgroups(controller: str) -> Iterator[Path]:
    """Give the folders of this process's cgroup and of each one above it, of version 2 or 1."""
    try:
        lines = _OWN_CGROUP.read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        # Within a container the path is the host's, and the container's own cgroup is the root.
        root = _CGROUPS / controller if controllers else _CGROUPS
        inner = root / path.lstrip("/")
        yield from {root, *(above for above in (inner, *inner.parents) if above.is_relative_to(root))}


def _limit_of(folder: Path) -> Iterator[int]:
    """Give the limit of memory that a cgroup's own file states; nothing where it has none."""
    for name in ("memory.max", "memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # ValueError: "max"
            yield int((folder / name).read_text(encoding="utf-8"))


def _quota_of(folder: Path) -> Iterator[float]:
    """Give the quota that a cgroup's own files state; nothing where it has none."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            quota, period = ((folder / name).read_text(encoding="utf-8").strip() for name in names)
    except (OSError, ValueError):
        return
    if quota not in ("max", "-1"):
        yield int(quota) / int(period)


def keep_freed_memory() -> None:
    """Have glibc reuse freed memory instead of returning it to the system; does nothing elsewhere.

    A step frees and takes again the same large tensors. Returned to the system each time, their pages would have to be
    mapped and zeroed anew, which costs a fifth of a narrow network's step on a CPU.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, 1 << 30)
        mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
