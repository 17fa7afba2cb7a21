"""The step as a recording: what it does is what the step does, and recording it leaves no trace."""

import gc
import weakref

import pytest
import torch

from helpers.networks import batch, motion_spec, narrow
from helpers.pretended_gpu import PRETENDED, Launches, captured, pretended_gpu
from kgan_ray.benchmarks.timing import ntu60_gan
from kgan_ray.model import discriminator_pass, discriminator_weights, growth
from kgan_ray.settings import TechniqueSettings, UserError, override
from kgan_ray.skeleton import LAYOUTS
from kgan_ray.storage import StorePath
from kgan_ray.training.captured import TrainedState
from kgan_ray.training.checkpoint import load_generator, write_checkpoint
from kgan_ray.training.gan import GAN

OVERRIDES = {
    "training.n_critic": 3,
    "training.ema_decay": 0.9,
    "techniques.mask_quantile": 0.5,
    "techniques.input_noise_std": 0.1,
    "techniques.input_noise_kind": "elementwise",
}
GRAPH = {**OVERRIDES, "training.cuda_graph": True}


def rehearse_and_forget(work, state: TrainedState):
    """What recording does to references: a graph holds launches, none of the Python objects that made them."""
    state.rehearse(work, 3)
    work()
    return lambda: None


def test_recorded_steps_train_to_the_same_bits():
    spec = motion_spec()
    plain, recorded = GAN(narrow(OVERRIDES), spec), GAN(narrow(GRAPH), spec)
    recorded._captured = captured(recorded)
    for _ in range(7):
        motions, labels = batch(spec)
        expected, found = plain.step(motions, labels), recorded.step(motions, labels)
        assert {n: float(v) for n, v in found.items()} == {n: float(v) for n, v in expected.items()}
    theirs = recorded.state_dict()["weights"]
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in plain.state_dict()["weights"].items())


def test_a_recording_reads_falling_rates_where_it_found_them():
    gan = GAN(narrow({**GRAPH, "training.learning_rate_decay": 0.1, "training.steps": 8}), motion_spec())
    gan._captured = captured(gan)
    rates, places = [], set()
    for _ in range(8):
        gan.step(*batch(gan.spec))
        rate = gan.generator_adam.param_groups[0]["lr"]
        rates.append(float(rate) / 2e-4)
        places.add(rate.data_ptr())
    assert len(places) == 1
    assert rates == pytest.approx([1, 1, 1, 1, 0.775, 0.55, 0.325, 0.1])


def test_each_step_is_of_the_motions_it_is_given():
    spec = motion_spec()
    plain, recorded = GAN(narrow(OVERRIDES), spec), GAN(narrow(GRAPH), spec)
    recorded._captured = captured(recorded)
    motions, labels = batch(spec)
    for given in (motions, -motions, motions * 0.5):
        expected, found = plain.step(given, labels), recorded.step(given, labels)
        assert float(found["discriminator/real_score"]) == float(expected["discriminator/real_score"])


def test_a_graph_without_a_gpu_is_refused_when_it_should_step():
    spec = motion_spec()
    gan = GAN(narrow({"training.cuda_graph": True}), spec)
    assert gan.sample(torch.arange(3)).shape == (3, *spec.shape)
    with pytest.raises(UserError, match=r"training.cuda_graph: a CUDA graph needs a GPU, and this run is on cpu"):
        gan.step(*batch(spec))


def test_the_checkpoint_of_a_recorded_run_samples_without_a_gpu(tmp_path):
    spec = motion_spec()
    gan = GAN(narrow(GRAPH), spec)
    gan._captured = captured(gan)
    gan.step(*batch(spec))
    write_checkpoint(StorePath(tmp_path / "step"), gan, {"step": 1, "metrics": {}, "dataset": "none"})
    labels = torch.arange(4)
    assert torch.equal(load_generator(tmp_path / "step").sample(labels), gan.sample(labels))


def test_nothing_of_a_recorded_gan_outlives_it():
    gan = GAN(narrow(GRAPH), motion_spec())
    gan._captured = captured(gan, rehearse_and_forget)
    for _ in range(2):
        gan.step(*batch(gan.spec))
    left = [weakref.ref(thing) for thing in (gan, gan._captured, gan.generator, gan.generator_adam)]
    gc.collect()
    gc.disable()
    try:
        del gan
        assert [reference() for reference in left] == [None] * len(left)
    finally:
        gc.enable()


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Let the networks choose the operations that they choose on a GPU."""
    for module in (discriminator_pass, discriminator_weights, growth):
        monkeypatch.setattr(module, "launches_matter", lambda x: True)


@pytest.mark.parametrize(
    "crossing",
    [
        lambda x: x[[0, 2]],
        lambda x: x[:, 0][torch.tensor([0, 2], device=PRETENDED)],
        lambda x: x.copy_(torch.ones(3, 3)),
        lambda x: torch.ones(3, 3).to(PRETENDED),
    ],
    ids=["list", "numbers", "copy", "move"],
)
def test_the_pretended_gpu_tells_what_comes_from_the_host(monkeypatch, crossing):
    with pretended_gpu(monkeypatch):
        x = torch.empty(3, 3, device=PRETENDED)
        with Launches() as launches:
            x[0, 1:][x.argmax(dim=1)[1:]]
        assert (launches.operations.total(), launches.crossings.total()) == (2, 0)
        with Launches() as launches:
            crossing(x)
        assert launches.crossings.total() > 0


@pytest.mark.parametrize(
    "wait", [lambda x: x.sum().item(), lambda x: x[x > 0], torch.Tensor.tolist, torch.Tensor.cpu]
)
def test_the_pretended_gpu_has_no_values_to_wait_for(wait):
    with pytest.raises((RuntimeError, NotImplementedError)):
        wait(torch.empty(3, device=PRETENDED))


def crossings_of_a_cycle(monkeypatch, settings, spec, next_batch):
    """Take two cycles of recorded steps on the pretended GPU, and return what the second took from the host."""
    with pretended_gpu(monkeypatch):
        gan = GAN(settings, spec, PRETENDED)
        gan._captured = captured(gan)
        for step in (0, 1):  # this cycle begins the epoch and makes the optimisers' moments
            gan.step(*next_batch(step))
        with Launches() as launches:
            for step in (2, 3):
                gan.step(*next_batch(step))
    assert launches.operations["_fused_adam_"] == 3
    return launches.crossings


BATCHES = {"plain": {}, "balanced": {"training.balanced_classes": True}, "random": {"data.window": "random"}}


@pytest.mark.parametrize("overrides", BATCHES.values(), ids=BATCHES)
def test_a_cycle_of_steps_with_its_batches_takes_nothing_from_the_host(monkeypatch, demo, tiny, overrides):
    """Nor does it wait for the device, or it would raise: a recording can hold neither."""
    settings = override(tiny, {**overrides, "training.cuda_graph": True, "training.n_critic": 2})
    training, view = settings.training, demo.view(settings.data)
    batches = view.batches(
        batch_size=training.batch_size, seed=0, device=PRETENDED, balanced=training.balanced_classes
    )
    assert crossings_of_a_cycle(monkeypatch, settings, view.spec, batches.batch) == {}


LABEL_NOISE = "techniques.label_noise_std"
# Other values than the default of every setting of a step: the first ones together, the last ones, and what excludes another alone.
MANY = {
    "techniques.pooling": ["max"],
    "techniques.input_noise_std": [0.3],
    "techniques.input_noise_kind": ["elementwise"],
    LABEL_NOISE: [0.5],
    "techniques.mask_quantile": [0.0, 1.0],
    "techniques.mask_latent_std": [0.5],
    "techniques.mask_noise_std": [0.0],
    "model.projection": [True],
    "model.auxiliary_classifier": [True],
    "model.standardised": [True],
    "model.smoothing": [2],
    "training.gradient_penalty": [0.0],
    "training.auxiliary_weight": [0.0],
    "training.auxiliary_generator_weight": [0.0],
    "training.ema_decay": [0.9],
    "training.learning_rate_decay": [0.1],
    "training.precision": ["bfloat16", "tf32"],
}
CASES = {
    "first": {name: values[0] for name, values in MANY.items() if name != LABEL_NOISE},
    "last": {name: values[-1] for name, values in MANY.items() if name != LABEL_NOISE},
    "label noise": {LABEL_NOISE: 0.5},  # not with a projection or a classifier
    "scalar noise": {"techniques.input_noise_std": 0.3},
    "projection": {"model.projection": True},
    "classifier": {"model.auxiliary_classifier": True},
}


def test_every_technique_is_among_the_settings_of_a_step():
    assert {name for name in MANY if name.startswith("techniques.")} == {
        f"techniques.{name}" for name in TechniqueSettings.model_fields
    }


@pytest.mark.parametrize("overrides", CASES.values(), ids=CASES)
def test_no_setting_makes_a_step_take_anything_from_the_host(monkeypatch, overrides):
    settings, spec = narrow({**overrides, "training.cuda_graph": True, "training.n_critic": 2}), motion_spec()
    given = torch.empty(8, *spec.shape, device=PRETENDED), torch.empty(8, dtype=torch.long, device=PRETENDED)
    assert crossings_of_a_cycle(monkeypatch, settings, spec, lambda step: given) == {}


@pytest.mark.parametrize(("layout", "coordinates", "frames"), [("h36m16", 2, 48), ("ucla20", 3, 16)])
def test_no_skeleton_makes_a_step_take_anything_from_the_host(monkeypatch, layout, coordinates, frames):
    settings = narrow({**OVERRIDES, "training.cuda_graph": True, "training.n_critic": 2})
    spec = motion_spec(frames).model_copy(update={"layout": LAYOUTS[layout], "coordinates": coordinates})
    given = torch.empty(8, *spec.shape, device=PRETENDED), torch.empty(8, dtype=torch.long, device=PRETENDED)
    assert crossings_of_a_cycle(monkeypatch, settings, spec, lambda step: given) == {}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_real_graph_trains_as_launches_one_by_one_do():
    spec = motion_spec()
    plain = GAN(narrow(OVERRIDES), spec, "cuda")
    recorded = GAN(narrow(GRAPH), spec, "cuda")
    for _ in range(7):
        motions, labels = (tensor.cuda() for tensor in batch(spec))
        expected, found = plain.step(motions, labels), recorded.step(motions, labels)
        torch.testing.assert_close(found["discriminator/loss"], expected["discriminator/loss"], rtol=1e-4, atol=0)


def test_a_step_at_the_published_size_takes_few_operations(as_on_a_gpu):
    """Each is a launch on a GPU. Counted on the CPU, whose convolutions put out their memory as CUDA's do."""
    gan = ntu60_gan("cpu")
    motions, labels = torch.rand(2, *gan.spec.shape), torch.arange(2)
    gan.step(motions, labels)
    counts = []
    for with_generator in (False, True):
        with Launches(torch.device("cpu")) as launches:
            gan._compute(motions, labels, with_generator)
        counts.append(launches.operations.total())
    assert counts[0] <= 304
    assert counts[1] <= 665


@pytest.mark.parametrize("frames", [16, 64])
def test_the_operations_of_a_gpu_train_as_those_of_a_cpu_do(request, frames):
    settings, spec = narrow({"data.frames": frames, "training.n_critic": 2}), motion_spec(frames)
    plain = GAN(settings, spec)
    expected = [plain.step(*batch(spec, seed=seed)) for seed in range(4)]
    request.getfixturevalue("as_on_a_gpu")
    gan = GAN(settings, spec)
    for seed, metrics in enumerate(expected):
        torch.testing.assert_close(gan.step(*batch(spec, seed=seed)), metrics, rtol=1e-3, atol=1e-5)
