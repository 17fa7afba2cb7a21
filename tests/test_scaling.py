"""The model of many workers in closed form, and the two that it is measured with."""

import math

import pytest

from kgan_ray.benchmarks.parts import workers
from kgan_ray.benchmarks.rows import Row
from kgan_ray.benchmarks.scaling import LATENCY, Scaling, Traffic, draw

MIB = 2**20


def scaling(operations=2.0, sent=8.0 * MIB):
    """0.1 s a step and 0.02 s a motion on one worker."""
    seconds = {share: 0.1 + 0.02 * share for share in (32, 16, 8, 4)}
    return Scaling(seconds, together=0.5, all_reduce=0.01, traffic=Traffic(operations, sent))


def test_a_step_is_its_computation_and_what_is_sent():
    found = scaling()
    assert (found.fixed, found.per_motion) == (pytest.approx(0.1), pytest.approx(0.02))
    assert found.step(1, 32, gigabits=10) == pytest.approx(0.74)
    sending = 2 * 7 / 8 * 8 * MIB / 1.25e9
    assert found.step(8, 32, gigabits=10) == pytest.approx(0.74 + 2 * 2 * 3 * LATENCY + sending)
    assert found.step(8, 4, gigabits=10, speedup=100) == pytest.approx(0.0018 + 2 * 2 * 3 * LATENCY + sending)


def test_two_workers_that_halve_the_step_are_wholly_efficient():
    assert Scaling({32: 1.0, 16: 0.5}, 0.5, 0.0, Traffic(0, 0)).efficiency == 1.0


def test_without_traffic_only_the_fixed_part_limits_the_gain():
    found = scaling(operations=0, sent=0)
    assert found.step(1, 32, 10) / found.step(512, 32, 10) == 1
    assert found.step(1, 32, 10) / found.step(32, 1, 10) == pytest.approx(0.74 / 0.12)


def test_slower_networks_gain_less(tmp_path):
    found = scaling(operations=50, sent=100 * MIB)
    steps = [found.step(64, 0.5, gigabits, speedup=100) for gigabits in (10, 100, 400)]
    assert steps == sorted(steps, reverse=True)
    draw(found, tmp_path / "scaling.png")
    assert (tmp_path / "scaling.png").stat().st_size > 10_000


def test_one_device_alone_is_said_to_be_alone(monkeypatch):
    alone = Scaling({32: 0.5}, math.nan, math.nan, Traffic(math.nan, math.nan))
    monkeypatch.setattr("kgan_ray.benchmarks.scaling.measure", lambda device: alone)
    assert workers("cpu", None) == [Row("workers: one, batch 32", 2.0, "steps/s")]


@pytest.mark.slow
@pytest.mark.alone
def test_two_workers_are_measured_beside_one(tmp_path):
    rows = {row.what: row.value for row in workers("cpu", str(tmp_path / "figure.png"))}
    assert all(value > 0 for value in rows.values())
    assert rows["workers: efficiency of two"] < 1.5
    assert rows["workers: sent in a step"] > 10  # MiB: the discriminator's gradients alone are more
    assert (tmp_path / "figure.png").exists()
