"""What a process may use of its machine, told by its cgroup."""

import os

import pytest

from kgan_ray import limits
from kgan_ray.limits import num_cores


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
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    (tmp_path / "own").write_text(own)
    monkeypatch.setattr(limits, "_CGROUPS", tmp_path)
    monkeypatch.setattr(limits, "_OWN_CGROUP", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)))
    assert num_cores() == cores
