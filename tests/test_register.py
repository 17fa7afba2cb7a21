"""The registry: which run is chosen, and that the model which MLflow loads generates its motions."""

import numpy as np
import pandas as pd
import pytest
import torch

from helpers.networks import motion_spec, narrow
from helpers.stores import new_store
from kgan_ray.settings import UserError, flatten, resolve_settings
from kgan_ray.tracking.run import start_run
from kgan_ray.training.checkpoint import CheckpointStore
from kgan_ray.training.gan import GAN
from kgan_ray.tuning.answer.results import Results
from kgan_ray.tuning.report.registry import register_best
from kgan_ray.tuning.state import CONFIRM, EXPLORE, Sweep, Trial


def run_of(configuration: str, seed: int, value: float, stage: str = CONFIRM, **more) -> Trial:
    name = f"{stage}-{configuration}-{seed}"
    more = {"status": "finished", **more}
    return Trial(
        name=name,
        stage=stage,
        configuration=configuration,
        overrides={},
        seed=seed,
        metrics={"fid": value},
        **more,
    )


def sweep_of(trials: list[Trial], uri: str = "") -> Sweep:
    settings = flatten(resolve_settings("demo"))
    return Sweep(name="disc", space={}, settings=settings, metric="fid", mode="min", uri=uri, trials=trials)


def test_the_best_run_of_the_best_configuration_is_chosen():
    trials = [
        run_of("lucky", 0, 1.0), run_of("lucky", 1, 90.0),  # the best run, but not the best on average
        run_of("good", 0, 12.0), run_of("good", 1, 10.0),
        run_of("good", 2, 0.1, status="interrupted"),
        run_of("explored", 0, 0.5, stage=EXPLORE),
    ]  # fmt: skip
    assert Results(sweep_of(trials)).best_run("").name == "confirm-good-1"
    assert Results(sweep_of(trials[-1:])).best_run("") is None


def test_a_configuration_that_lost_runs_comes_after_all_that_did_not():
    trials = [
        run_of("good", 0, 12.0),
        run_of("good", 1, 10.0),
        run_of("risky", 0, 1.0),
        run_of("risky", 1, 1.0, status="diverged"),
    ]
    assert Results(sweep_of(trials)).best_run("").name == "confirm-good-1"
    assert Results(sweep_of(trials[2:])).best_run("").name == "confirm-risky-0"


def test_configurations_are_ranked_by_the_means_that_the_verdicts_compare():
    trials = [
        run_of("even", 0, 40.0),
        run_of("even", 1, 40.0),
        run_of("uneven", 0, 1.0),
        run_of("uneven", 1, 100.0),
    ]
    for compare, best in (("difference", "confirm-even-0"), ("ratio", "confirm-uneven-0")):
        sweep = sweep_of(trials).model_copy(update={"compare": compare})
        assert Results(sweep).best_run("").name == best


def test_groups_are_not_compared(tmp_path, monkeypatch):
    """What one extractor measured says nothing beside what another did: each group's best is a model of its own."""
    monkeypatch.setattr(
        "kgan_ray.tuning.report.registry._register", lambda results, folder, group: results.best_run(group).name
    )
    trials = [
        run_of("low", 0, 1.0, group="xsub", extractor="a"), run_of("high", 0, 100.0, group="xview", extractor="b"),
    ]  # fmt: skip
    assert register_best(Results(sweep_of(trials)), tmp_path) == ["confirm-low-0", "confirm-high-0"]


def test_the_registered_model_generates_the_checkpoints_motions(tmp_path, monkeypatch):
    import mlflow

    uri = new_store(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)  # mlflow itself would set it for good
    run = start_run(uri, experiment="disc", name="trial")
    gan = GAN(narrow({"training.ema_decay": 0.9}), motion_spec())
    trial = run_of("good", 0, 3.0, run_id=run.id)
    store = CheckpointStore(str(tmp_path / "trials" / trial.name / "checkpoints"))
    store.save(gan, {"step": 0, "metrics": {"fid": 2.5}, "dataset": "d"})  # better than where the run ended

    (address,) = register_best(Results(sweep_of([trial], uri)), tmp_path)
    model = mlflow.pyfunc.load_model(address)
    labels = [2, 0, 2]
    made = model.predict(pd.DataFrame({"label": labels}), params={"seed": 5, "truncation": 0.9})
    expected = gan.spec.to_metres(gan.sample(torch.tensor(labels), seed=5, truncation=0.9)).numpy()
    np.testing.assert_allclose(made, expected, atol=1e-6)
    with pytest.raises(UserError, match="this model has classes 0 to 3"):
        model.predict(pd.DataFrame({"label": [4]}))
    versions = mlflow.MlflowClient(uri).search_model_versions("name='kgan_ray-disc'")
    assert [(one.tags["configuration"], one.tags["fid"]) for one in versions] == [("good", "2.5")]
    assert register_best(Results(sweep_of([trial], uri)), tmp_path) == ["models:/kgan_ray-disc/2"]
