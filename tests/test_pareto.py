"""The Pareto front."""

from kgan_ray.tuning.search.pareto import pareto_front


def test_the_front_is_what_nothing_beats_in_both():
    values = {"a": (1.0, 0.2), "b": (2.0, 0.5), "c": (3.0, 0.4), "d": (1.0, 0.1), "e": (4.0, 0.5)}
    assert pareto_front(values, (True, False)) == ["a", "b"]
    assert pareto_front(values, (False, False)) == ["e"]
