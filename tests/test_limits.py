"""What a process may use of its machine, told by its cgroup."""

import os
import sys

import pytest

from kgan_ray import limits
from kgan_ray.limits import memory_limit, num_cores


def test_without_a_quota_the_affinity_mask_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(limits, "_CGROUPS", tmp_path)
    assert num_cores() == len(os.sched_getaffinity(0))
    monkeypatch.setattr(limits, "_OWN_CGROUP", tmp_path / "no Linux")
    assert num_cores() == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "400000 100000"}, 4),
        ("0::/\n", {"cpu.max": "max 100000"}, 64),
        ("0::/\n", {"cpu.max": "50000 100000"}, 1),  # half a core is one worker
        ("0::/kubepods/pod1/c2\n", {"cpu.max": "250000 100000"}, 2),  # a container sees the host's path
        ("0::/a/b\n", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3),  # the one above limits too
        (
            "4:cpu,cpuacct:/d\n3:memory:/d\n",
            {"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"},
            2,
        ),
        ("4:cpu,cpuacct:/d\n", {"cpu/d/cpu.cfs_quota_us": "-1", "cpu/d/cpu.cfs_period_us": "100000"}, 64),
    ],
)
def test_the_cgroups_quota_counts_instead_of_the_machine(monkeypatch, tmp_path, own, files, cores):
    write_cgroups(monkeypatch, tmp_path, own, files)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)))
    assert num_cores() == cores


@pytest.mark.parametrize(
    ("own", "files", "limit"),
    [
        ("0::/\n", {"memory.max": "3000000000"}, 3_000_000_000),
        ("0::/\n", {"memory.max": "max"}, sys.maxsize),
        ("0::/job/step\n", {"job/memory.max": "2000000000", "job/step/memory.max": "max"}, 2_000_000_000),
        (
            "4:memory:/job/step\n1:cpu:/other\n",
            {
                "memory/memory.limit_in_bytes": "9223372036854771712",
                "memory/job/memory.limit_in_bytes": "2000000000",
                "memory/job/step/memory.limit_in_bytes": "9223372036854771712",
                "memory/other/memory.limit_in_bytes": "5",
            },
            2_000_000_000,
        ),
        ("4:cpu:/d\n", {"cpu/d/memory.limit_in_bytes": "5"}, sys.maxsize),
    ],
)
def test_the_least_limit_of_memory_counts_wherever_it_is_set(monkeypatch, tmp_path, own, files, limit):
    write_cgroups(monkeypatch, tmp_path, own, files)
    assert memory_limit() == limit


def write_cgroups(monkeypatch, home, own, files):
    for name, text in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text + "\n")
    (home / "own").write_text(own)
    monkeypatch.setattr(limits, "_CGROUPS", home)
    monkeypatch.setattr(limits, "_OWN_CGROUP", home / "own")
