"""What this process may use of its machine: less than the machine has, in a container, under a scheduler or taskset.

And that it keeps the memory that it has got.
"""

from __future__ import annotations

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
    return max(1, int(min([cores, *_quotas(_CGROUPS, _OWN_CGROUP)])))


def _quotas(cgroups: Path, own: Path) -> Iterator[float]:
    """Give the CPU quota, in cores, of this process's cgroup and of each one above it that has one."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # Within a container the path is the host's, and the container's own cgroup is the root.
        root = cgroups / "cpu" if controllers else cgroups
        inner = root / path.lstrip("/")
        for folder in {root, *(above for above in (inner, *inner.parents) if above.is_relative_to(root))}:
            yield from _quota_of(folder)


def _quota_of(folder: Path) -> Iterator[float]:
    """Give the quota that a cgroup's own files state, of version 2 or 1; nothing where it has none."""
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
