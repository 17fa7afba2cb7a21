"""Numbers as people read them."""

import pytest

from kgan_ray.text import duration, number, with_spread


@pytest.mark.parametrize(
    ("mean", "deviation", "shown"),
    [
        (2950.4, 1766.2, "2950 ± 1766"),
        (136.64, 10.08, "137 ± 10"),
        (0.62134, 0.0686, "0.621 ± 0.069"),
        (0.1, 1.7e-17, "0.1000 ± 0.0000"),
        (0.1, 0.0, "0.1000 ± 0.0000"),
        (12588.8, None, "12589"),
        (None, None, "-"),
    ],
)
def test_a_mean_and_its_deviation_end_at_the_same_place(mean, deviation, shown):
    assert with_spread(mean, deviation) == shown


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [
        (12588.8, 4, "12589"),
        (9999.7, 4, "10000"),
        (-2345.6, 3, "-2346"),
        (0.29153, 3, "0.292"),
        (2.5e7, 4, "2.5e+07"),
        (float("nan"), 4, "-"),
    ],
)
def test_numbers_below_a_million_have_no_exponent_however_few_digits(value, digits, shown):
    assert number(value, digits) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(59.6, "1:00"), (3723, "1:02:03"), (590_000, "6.8 days"), (float("inf"), "-")]
)
def test_durations_are_of_minutes_hours_or_days(seconds, shown):
    assert duration(seconds) == shown
