import json
import pickle

import pytest
import torch

from helpers.checkpoints import made_on_a_gpu
from kgan_ray.run_folder import state_of
from kgan_ray.settings import UserError, override
from kgan_ray.training.checkpoint import (
    CheckpointStore,
    change_of_device,
    load_generator,
    read_checkpoint,
    restore,
)
from kgan_ray.training.gan import GAN

STATE = {"metrics": {}, "dataset": "abc"}


@pytest.fixture
def gan(tiny, demo):
    return GAN(tiny, demo.view(tiny.data).spec)


def batch(gan):
    random = torch.Generator().manual_seed(0)
    motions = torch.rand(8, *gan.spec.shape, generator=random) * 2 - 1
    return motions, torch.arange(8) % gan.spec.num_classes


def test_a_restored_gan_goes_on_exactly_as_the_saved_one(gan, tmp_path):
    gan.step(*batch(gan))
    CheckpointStore(str(tmp_path)).save(gan, STATE)
    again = GAN(override(gan.settings, {"seed": 99}), gan.spec)
    restore(again, read_checkpoint(tmp_path))
    assert again.step_count == 1
    for _ in range(6):  # past the next generator step
        expected, found = gan.step(*batch(gan)), again.step(*batch(gan))
        assert {name: float(value) for name, value in found.items()} == {
            name: float(value) for name, value in expected.items()
        }


def test_random_state_keeps_the_names_of_format_1(gan, tmp_path):
    CheckpointStore(str(tmp_path)).save(gan, STATE)
    assert set(read_checkpoint(tmp_path).optimiser["random"]) == {"chance", "technique_chance"}


def test_a_checkpoint_of_a_gpu_samples_the_same_motions_here(gan, tmp_path):
    gan.step(*batch(gan))
    CheckpointStore(str(tmp_path)).save(gan, STATE)
    made_on_a_gpu(tmp_path)
    labels = torch.arange(4)
    assert torch.equal(load_generator(tmp_path).sample(labels, seed=5), gan.sample(labels, seed=5))


def test_training_goes_on_from_a_gpu_with_random_numbers_that_follow_from_seed_and_step(gan, tmp_path):
    gan.step(*batch(gan))
    CheckpointStore(str(tmp_path)).save(gan, STATE)
    made_on_a_gpu(tmp_path)
    first, again = (GAN(gan.settings, gan.spec) for _ in range(2))
    other = GAN(override(gan.settings, {"seed": 99}), gan.spec)
    for one in (first, again, other):
        restore(one, read_checkpoint(tmp_path))
    draws = [one.draws.normal(4, 4) for one in (first, again, other, gan, GAN(gan.settings, gan.spec))]
    assert torch.equal(draws[0], draws[1])
    assert not any(torch.equal(draws[0], draw) for draw in draws[2:])
    assert first.step_count == 1


def test_a_checkpoint_says_on_which_kind_of_device_it_was_made(gan, tmp_path):
    folder = CheckpointStore(str(tmp_path)).save(gan, STATE)
    assert read_checkpoint(tmp_path).device == "cpu"
    assert change_of_device(7, "cpu", "cpu") == ""
    made_on_a_gpu(tmp_path)
    state = json.loads((folder / "state.json").read_bytes())
    (folder / "state.json").write_text(
        json.dumps({name: value for name, value in state.items() if name != "device"})
    )
    assert read_checkpoint(tmp_path).device == "cuda", "of an older one the random state tells"


@pytest.mark.parametrize("net", ["generator", "discriminator"])
def test_a_restored_gan_learns_at_the_rate_of_its_own_settings(gan, tmp_path, net):
    gan.step(*batch(gan))
    CheckpointStore(str(tmp_path)).save(gan, STATE)
    rate = 10 * getattr(gan.settings.training, f"{net}_learning_rate")
    again = GAN(override(gan.settings, {f"training.{net}_learning_rate": rate}), gan.spec)
    restore(again, read_checkpoint(tmp_path))
    getattr(gan, f"{net}_adam").param_groups[0]["lr"] = rate
    for _ in range(6):
        gan.step(*batch(gan)), again.step(*batch(gan))
    torch.testing.assert_close(again.state_dict()["weights"], gan.state_dict()["weights"], rtol=0, atol=0)


def test_load_generator_samples_the_saved_motions(gan, tmp_path):
    CheckpointStore(str(tmp_path / "checkpoints")).save(gan, STATE)
    labels = torch.arange(4)
    torch.testing.assert_close(load_generator(tmp_path).sample(labels, seed=5), gan.sample(labels, seed=5))


def test_a_checkpoint_of_another_model_is_refused_with_tensor_and_setting(gan, tmp_path):
    CheckpointStore(str(tmp_path)).save(gan, STATE)
    other = GAN(override(gan.settings, {"model.latent_dim": 24}), gan.spec)
    with pytest.raises(UserError, match=r"another model: .*; model\.latent_dim is 16 there and 24 here"):
        restore(other, read_checkpoint(tmp_path))


def test_a_folder_without_its_state_is_no_checkpoint(gan, tmp_path):
    store = CheckpointStore(str(tmp_path))
    whole = store.save(gan, STATE)
    half = tmp_path / "step-00000009"
    half.mkdir()
    (half / "weights.safetensors").write_bytes(b"half")
    assert store.folders() == [whole]


@pytest.mark.parametrize("file", ["weights.safetensors", "optimiser.pt", "settings.json"])
def test_a_truncated_file_is_refused(gan, tmp_path, file):
    folder = tmp_path / "step-00000000"
    CheckpointStore(str(tmp_path)).save(gan, STATE)
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="not a whole checkpoint"):
        read_checkpoint(tmp_path)


def test_a_checkpoint_that_holds_code_is_refused_and_nothing_runs(gan, tmp_path):
    mark = tmp_path / "mark"

    class Payload:
        def __reduce__(self):
            return open, (str(mark), "w")

    CheckpointStore(str(tmp_path)).save(gan, STATE)
    (tmp_path / "step-00000000/optimiser.pt").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(UserError, match="not a whole checkpoint"):
        read_checkpoint(tmp_path)
    assert not mark.exists()


def test_a_newer_format_is_refused(gan, tmp_path):
    CheckpointStore(str(tmp_path)).save(gan, STATE)
    file = tmp_path / "step-00000000/state.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format_version": 99}))
    with pytest.raises(UserError, match="newer kgan_ray"):
        read_checkpoint(tmp_path)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="no checkpoint here"):
        read_checkpoint(tmp_path)


def test_pruning_keeps_the_newest_and_the_best(gan, tmp_path):
    store = CheckpointStore(str(tmp_path))
    for step, fid in enumerate([30.0, 10.0, 20.0, 40.0, 50.0], start=1):
        gan.step(*batch(gan))
        store.save(gan, {**STATE, "step": step, "metrics": {"fid": fid}})
        assert gan.step_count == step
    store.prune(2, "fid", lowest=True)
    assert [folder.name[-1] for folder in store.folders()] == ["2", "4", "5"]
    assert store.best("fid").name.endswith("2")


def test_the_best_is_one_that_was_measured(gan, tmp_path):
    """Between two evaluations a checkpoint carries the scores of the one before, which its own weights never had."""
    store = CheckpointStore(str(tmp_path))
    for step, measured_at, fid in ((1, 1, 20.0), (2, 1, 10.0), (3, 3, 30.0)):
        gan.step(*batch(gan))
        store.save(gan, {**STATE, "step": step, "measured_at": measured_at, "metrics": {"fid": fid}})
    assert store.best("fid").name.endswith("1")
    store.prune(1, "fid")
    assert [folder.name[-1] for folder in store.folders()] == ["1", "3"]


def test_saving_the_same_step_again_replaces_it(gan, tmp_path):
    store = CheckpointStore(str(tmp_path))
    store.save(gan, STATE)
    store.save(gan, {**STATE, "metrics": {"fid": 1.0}})
    assert [state_of(folder)["metrics"] for folder in store.folders()] == [{"fid": 1.0}]
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000000"]  # no half-written folder is left


def test_a_store_may_be_any_file_system(gan, tmp_path):
    store = CheckpointStore(f"memory://{tmp_path}")
    store.save(gan, STATE)
    found = store.newest()
    assert found.state["dataset"] == "abc"
    torch.testing.assert_close(found.weights, dict(gan.state_dict()["weights"]))
