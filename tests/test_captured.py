"""The step as a recording: what it does is what the step does, and recording it leaves no trace."""

import pytest
import torch

from helpers.networks import batch, motion_spec, narrow
from kgan_ray.settings import UserError
from kgan_ray.training.captured import CapturedStep, TrainedState
from kgan_ray.training.gan import GAN, allow_tf32

OVERRIDES = {
    "training.n_critic": 3,
    "training.ema_decay": 0.9,
    "techniques.mask_quantile": 0.5,
    "techniques.input_noise_std": 0.1,
    "techniques.input_noise_kind": "elementwise",
}


def rehearse_and_repeat(work, state: TrainedState):
    """What recording does, less the GPU: a rehearsal that is taken back, then the same work at every replay."""
    state.rehearse(work, 3)
    return work


def captured(gan: GAN) -> CapturedStep:
    networks = [gan.generator, gan.discriminator, gan.average]
    optimisers = [gan.generator_adam, gan.discriminator_adam]
    state = TrainedState(networks, optimisers, [gan.draws.random, gan.draws.technique_random])
    return CapturedStep(gan._compute, state, record=rehearse_and_repeat)


def test_recorded_steps_train_to_the_same_bits():
    spec = motion_spec()
    plain, recorded = GAN(narrow(OVERRIDES), spec), GAN(narrow(OVERRIDES), spec)
    recorded._captured = captured(recorded)
    for _ in range(7):
        motions, labels = batch(spec)
        expected, found = plain.step(motions, labels), recorded.step(motions, labels)
        assert {n: float(v) for n, v in found.items()} == {n: float(v) for n, v in expected.items()}
    theirs = recorded.state_dict()["weights"]
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in plain.state_dict()["weights"].items())


def test_each_step_is_of_the_motions_it_is_given():
    spec = motion_spec()
    plain, recorded = GAN(narrow(OVERRIDES), spec), GAN(narrow(OVERRIDES), spec)
    recorded._captured = captured(recorded)
    motions, labels = batch(spec)
    for given in (motions, -motions, motions * 0.5):
        expected, found = plain.step(given, labels), recorded.step(given, labels)
        assert float(found["discriminator/real_score"]) == float(expected["discriminator/real_score"])


def test_a_graph_without_a_gpu_is_refused():
    with pytest.raises(UserError, match=r"training.cuda_graph: a CUDA graph needs a GPU, and this run is on cpu"):
        GAN(narrow({"training.cuda_graph": True}), motion_spec())


@pytest.mark.parametrize("allowed", [True, False])
def test_tf32_is_on_only_where_it_was_asked_for(allowed):
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        allow_tf32(allowed)
        assert torch.backends.cuda.matmul.allow_tf32 is allowed
        assert torch.backends.cudnn.allow_tf32 is allowed
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_real_graph_trains_as_launches_one_by_one_do():
    spec = motion_spec()
    plain = GAN(narrow(OVERRIDES), spec, "cuda")
    recorded = GAN(narrow({**OVERRIDES, "training.cuda_graph": True}), spec, "cuda")
    for _ in range(7):
        motions, labels = (tensor.cuda() for tensor in batch(spec))
        expected, found = plain.step(motions, labels), recorded.step(motions, labels)
        torch.testing.assert_close(found["discriminator/loss"], expected["discriminator/loss"], rtol=1e-4, atol=0)
