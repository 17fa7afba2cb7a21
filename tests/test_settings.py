import pytest

from kgan_ray.cli import parse_overrides
from kgan_ray.presets import PRESETS
from kgan_ray.resources import ResourceSettings
from kgan_ray.settings import (
    MAY_CHANGE,
    Settings,
    UserError,
    changed_settings,
    flatten,
    override,
    resolve_settings,
    setting_names,
    settings_from_flat,
)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_valid(preset):
    assert isinstance(resolve_settings(preset), Settings)


def test_the_defaults_are_the_published_protocol():
    settings = Settings()
    assert settings.training.n_critic == 5
    assert settings.training.generator_learning_rate == settings.training.discriminator_learning_rate == 2e-4
    assert (settings.training.beta1, settings.training.beta2) == (0.5, 0.999)
    assert settings.training.gradient_penalty == 10
    assert settings.data.window == "first"
    assert settings.data.centre == "none"
    assert settings.model.width == 1


def test_flattened_settings_come_back_the_same():
    settings = resolve_settings("demo", {"techniques.mask_quantile": 0.5, "evaluation.metrics": ["fid"]})
    assert settings_from_flat(flatten(settings), where="test") == settings
    assert set(flatten(settings)) == set(setting_names())


def test_records_of_evaluations_that_chose_batch_norm_are_read_and_the_setting_is_gone():
    recorded = {**flatten(resolve_settings("demo")), "evaluation.batch_norm": "batch"}
    assert settings_from_flat(recorded, where="test") == resolve_settings("demo")
    with pytest.raises(UserError, match=r"unknown setting 'evaluation\.batch_norm'"):
        resolve_settings("demo", {"evaluation.batch_norm": "batch"})


@pytest.mark.parametrize("way", ["projection", "auxiliary_classifier"])
def test_label_noise_is_refused_where_no_label_is_to_be_smoothed(way):
    changes = {f"model.{way}": True, "techniques.label_noise_std": 0.3}
    with pytest.raises(
        UserError,
        match=rf"label_noise_std is 0\.3, but with model\.{way} the label does not enter .*; --set model\.{way}=false allows it",
    ):
        resolve_settings("demo", changes)


def test_an_override_changes_one_setting_and_keeps_the_rest():
    before = resolve_settings("demo")
    after = override(before, {"techniques.pooling": "max"})
    changed = {name for name, value in flatten(after).items() if flatten(before)[name] != value}
    assert changed == {"techniques.pooling"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("seed=3", 3),
        ("seed=2e-4", 2e-4),
        ("seed=max", "max"),
        ("seed=null", None),
        ("seed=[a, b]", ["a", "b"]),
    ],
)
def test_values_on_the_command_line_are_read_as_yaml(text, value):
    assert parse_overrides([text]) == {"seed": value}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"techniques.poling": "max"}, "unknown setting 'techniques.poling'. Did you mean techniques.pooling?"),
        ({"techniques.pooling": "maks"}, "found \"maks\", input should be 'avg' or 'max'. Did you mean max?"),
        ({"data.frames": 20}, "frames is 20; the networks need a multiple of 16"),
        ({"training.steps": 0}, "training.steps: found 0, input should be greater than 0"),
        ({"resources.num_workers": 3}, "training.batch_size is 32, which 3 workers cannot share evenly"),
        ({"training.beta1": float("nan")}, "training.beta1: found NaN"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_is_accepted(overrides, message):
    with pytest.raises(UserError) as refusal:
        resolve_settings(None, overrides)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_an_unknown_preset_is_refused_with_the_nearest():
    with pytest.raises(UserError, match=r"unknown preset .dmo.\. Did you mean demo"):
        resolve_settings("dmo")


def test_an_override_without_a_value_is_refused():
    with pytest.raises(UserError, match="--set seed: expected NAME=VALUE"):
        parse_overrides(["seed"])


def test_only_what_leaves_the_computation_alone_may_change_when_a_run_goes_on():
    before = resolve_settings("demo")
    changes = {
        "training.steps": 700,
        "resources.num_workers": 2,
        "data.path": "elsewhere",
        "training.log_every": 7,
    }
    after = override(before, changes)
    assert changed_settings(before, after) == {"training.steps": (810, 700)}
    assert changed_settings(before, after, free=(*MAY_CHANGE, "training.steps")) == {}


def test_what_a_worker_a_run_and_a_trial_need():
    alone = ResourceSettings(cpus_per_worker=0.5)
    assert (alone.device, alone.threads, alone.devices) == ("cpu", 1, 0.5)
    assert alone.needed_by(1) == alone.needed_by_trial() == {"CPU": 0.5}
    assert (alone.worker_range, alone.fewest_workers) == (1, 1)
    shared = ResourceSettings(num_workers=4, min_workers=2, cpus_per_worker=3.9, gpus_per_worker=1)
    assert (shared.device, shared.threads, shared.devices) == ("cuda", 3, 4.0)
    assert shared.needed_by(2) == {"CPU": 7.8, "GPU": 2.0}
    assert shared.needed_by_trial() == {"memory": 1}, "it waits for its workers, and must not take what they need"
    assert (shared.worker_range, shared.fewest_workers) == ((2, 4), 2)
