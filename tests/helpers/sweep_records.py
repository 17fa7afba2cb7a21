"""Records of sweeps that have ended, made by hand."""

from kgan_ray.settings import flatten, resolve_settings
from kgan_ray.tuning.state import CONFIRM, EXPLORE, Sweep, Trial

BASELINE, BETTER = (100.0, 110.0, 90.0), (50.0, 52.0, 48.0)


def finished_sweep(**more) -> Sweep:
    """Return the record of a sweep: two explored trials; the baseline and the better one confirmed with three seeds each."""
    settings = flatten(resolve_settings("demo"))
    sweep = Sweep(name="disc", space={}, settings=settings, metric="fid", mode="min", dataset_hash="d" * 64)
    changes = {"techniques.pooling": "max"}
    for name, overrides, value in (
        ("explore-01", changes, 40.0),
        ("explore-02", {"techniques.pooling": "avg"}, 80.0),
    ):
        sweep.trials.append(make(name, EXPLORE, name, overrides, value))
    for name, overrides, values in (("baseline", {}, BASELINE), ("explore-01", changes, BETTER)):
        for seed, value in enumerate(values, 1000):
            sweep.trials.append(make(f"confirm-{name}-{seed}", CONFIRM, name, overrides, value, seed=seed))
    return sweep.model_copy(update=more)


def make(name, stage, configuration, overrides, value, **more) -> Trial:
    """Return a finished trial with this last value of FID."""
    return Trial(
        name=name,
        stage=stage,
        configuration=configuration,
        overrides=overrides,
        seed=more.pop("seed", 0),
        status="finished",
        step=600,
        metrics={"fid": value, "accuracy": 0.5, "discriminator/loss": -1.0},
        curve=[(200, value * 3), (400, value * 2), (600, value)],
        dataset="d" * 64,
        extractor="e" * 64,
        **more,
    )
