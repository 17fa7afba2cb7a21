"""The measurement of a sweep's own cost."""

import pytest

from kgan_ray.benchmarks.overhead import measure


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_what_a_sweep_costs_is_measured_beside_the_sleep_of_its_trials(tmp_path):
    found = measure(4, 0.5, with_record=True, scratch=tmp_path)
    assert 0 < found["first_step"] < found["wall"]
    assert found["wall"] > found["ideal"] >= 0.5
    assert found["overhead_share"] == pytest.approx(found["wall"] / found["ideal"] - 1)
