import pytest
import torch

from helpers.golden import golden, golden_state, stored
from kgan_ray.benchmarks.literal import LiteralDiscriminator
from kgan_ray.model import Discriminator
from kgan_ray.model.discriminator import DiscriminatorNoise
from kgan_ray.model.discriminator_pass import DiscriminatorPass
from kgan_ray.settings import TechniqueSettings, UserError
from kgan_ray.skeleton import LAYOUTS, NTU25, SkeletonGraph
from kgan_ray.training.losses import (
    discriminator_loss,
    discriminator_loss_gradient,
    gradient_penalty,
    interpolate,
    slope_penalty,
    slope_penalty_with_gradient,
)


@pytest.fixture(scope="module")
def arrays():
    return golden()


@pytest.fixture
def discriminator():
    net = Discriminator()
    net.load_published_state(golden_state(net.published_state(), "discriminator"))
    return net


def test_the_discriminator_has_the_published_number_of_parameters():
    assert sum(p.numel() for p in Discriminator().parameters()) == 3_332_115


@pytest.mark.parametrize(("motions", "scores"), [("x", "d_score"), ("g_train", "d_fake")])
def test_scores_are_the_golden_ones(arrays, discriminator, motions, scores):
    found = discriminator(arrays[motions], arrays["labels"])
    torch.testing.assert_close(found, arrays[scores], rtol=1e-5, atol=1e-6)


def test_loss_penalty_and_gradients_are_the_golden_ones(arrays, discriminator):
    real, fake, labels = arrays["x"], arrays["g_train"], arrays["labels"]
    penalty = gradient_penalty(discriminator, real, fake, labels, arrays["alpha"])
    real_score, fake_score = discriminator(real, labels), discriminator(fake, labels)
    loss = discriminator_loss(real_score, fake_score) + 10 * penalty
    assert float(penalty.detach()) == pytest.approx(float(arrays["gp"]), rel=1e-5)
    assert float(loss.detach()) == pytest.approx(float(arrays["d_loss"]), rel=1e-5)
    # The stored gradients leave out the fakes' share of the loss, though the stored loss has it.
    (10 * penalty - real_score.mean()).backward()
    compared = 0
    for name, parameter in discriminator.named_parameters():
        if (expected := arrays.get(f"d_grad.{name}")) is not None:
            largest = float(expected.abs().max())
            torch.testing.assert_close(stored(parameter.grad), expected, rtol=1e-4, atol=1e-4 * largest)
            compared += 1
    assert compared == 5


def test_slopes_along_the_interpolates_are_as_long_as_the_golden_ones(arrays, discriminator):
    between = interpolate(arrays["x"], arrays["g_train"], arrays["alpha"])
    weights, labels = discriminator.weights(), arrays["labels"]
    blocks = DiscriminatorPass(discriminator, weights)
    terms = weights.label.terms(discriminator.embedded(labels))
    features = blocks.forward(between, terms, DiscriminatorNoise()).requires_grad_()
    (downward,) = torch.autograd.grad(discriminator.score(features, labels).sum(), features)
    lengths = blocks.transposed(downward).flatten(1).norm(dim=1)
    torch.testing.assert_close(lengths, arrays["gp_grad_norms"], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
@pytest.mark.parametrize(("frames", "coordinates"), [(16, 2), (48, 3)])
def test_every_layout_and_length_agrees_with_the_literal_network(layout, frames, coordinates):
    torch.manual_seed(1)
    literal = LiteralDiscriminator(SkeletonGraph(layout), coordinates, 5, frames, 24)
    for parameter in literal.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    net = Discriminator(coordinates, 5, frames, 24, layout)
    net.load_published_state(literal.state_dict())
    motions, labels = torch.randn(3, coordinates, frames, SkeletonGraph(layout).layout.num_joints), torch.arange(3)
    torch.testing.assert_close(net(motions, labels), literal(motions, labels), rtol=1e-4, atol=1e-5)


OPTIONS = {
    "published": {},
    "max": {"techniques": TechniqueSettings(pooling="max")},
    "scalar": {"techniques": TechniqueSettings(input_noise_std=0.3)},
    "elementwise": {
        "techniques": TechniqueSettings(input_noise_std=0.3, input_noise_kind="elementwise", label_noise_std=0.5)
    },
    "projection": {"projection": True},
    "full width": {"width": 1.0, "latent_dim": 512},
    "same channels": {"width": 0.25, "latent_dim": 128},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_the_pass_written_out_gives_what_differentiating_twice_gives(options):
    torch.manual_seed(2)
    n, frames = 3, 16
    net = Discriminator(3, 4, frames, **{"width": 0.25, "latent_dim": 32, **options}).double()
    if options.get("projection"):
        torch.nn.init.normal_(net.projection.weight)
    real, fake = torch.randn(2, n, 3, frames, 25, dtype=torch.float64)
    between = interpolate(real, fake, torch.rand(n, 1, 1, 1, dtype=torch.float64))
    labels = torch.tensor([3, 0, 1])
    noise = net.draw_noise(n, device=real.device, num_batches=3).map(torch.Tensor.double)

    ends = torch.cat([real, fake])
    real_score, fake_score = net(ends, labels.repeat(2), noise.map(lambda t: t[: 2 * n])).chunk(2)
    point = between.clone().requires_grad_()
    (slope,) = torch.autograd.grad(
        net(point, labels, noise.map(lambda t: t[2 * n :])).sum(), point, create_graph=True
    )
    (discriminator_loss(real_score, fake_score) + 10 * slope_penalty(slope)).backward()
    expected = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    assert expected.keys() == {name for name, _ in net.named_parameters()} - (
        {"label_emb.weight"} if options.get("projection") else set()
    )

    net.zero_grad()
    weights, all_labels = net.weights(), labels.repeat(3)
    terms = weights.label.terms(net.embedded(all_labels, noise.label))
    blocks = DiscriminatorPass(net, weights, torch.float64)
    features = blocks.forward(torch.cat([ends, between]), terms, noise).requires_grad_()
    scores = net.score(features, all_labels)
    by_scores, by_loss = (discriminator_loss_gradient(n, scores.device, slope) for slope in (1.0, 0.0))
    (downward,) = torch.autograd.grad(scores, features, by_scores.double(), retain_graph=True)
    found_slope = blocks.transposed(downward, slopes_of=slice(2 * n, None))
    torch.testing.assert_close(found_slope, slope)
    _, direction = slope_penalty_with_gradient(found_slope, weight=10)
    change = net.change_of_score(blocks.tangent(direction, slice(2 * n, None)), labels)
    gradients, term_gradients = blocks.gradients(slice(0, 2 * n))
    term_gradients[2 * n :] = 0
    torch.autograd.backward(
        [*weights.tensors(), terms, scores, change],
        [*gradients, term_gradients, by_loss.double(), torch.ones_like(change)],
    )
    for name, gradient in expected.items():
        found = net.get_parameter(name).grad
        torch.testing.assert_close(found, gradient, msg=lambda text, name=name: f"{name}: {text}")


def test_standardised_motions_are_judged_as_others_are():
    net, plain = (Discriminator(3, 4, 16, 16, width=0.1, standardised=on) for on in (True, False))
    plain.load_published_state(net.published_state())
    mean, square = torch.rand(3, 25) - 0.5, torch.rand(3, 25) + 1
    net.standard.set(mean, square, square)
    motions, labels = torch.randn(5, 3, 16, 25), torch.tensor([0, 1, 2, 3, 0])
    relative = motions - motions[..., [NTU25.root]]
    relative[..., NTU25.root] = motions[..., NTU25.root]
    judged = (relative - mean[:, None]) / (square - mean**2).sqrt()[:, None]
    torch.testing.assert_close(net.judged(motions), judged)
    torch.testing.assert_close(net(motions, labels), plain(judged, labels))


def test_neutral_techniques_change_no_bit():
    torch.manual_seed(3)
    plain, neutral = (Discriminator(3, 4, 16, 16, width=0.1, techniques=t) for t in (None, TechniqueSettings()))
    neutral.load_state_dict(plain.state_dict())
    motions, labels = torch.randn(2, 3, 16, 25), torch.arange(2)
    assert torch.equal(plain(motions, labels), neutral(motions, labels))


def test_max_pooling_takes_the_largest_value_of_each_feature():
    net = Discriminator(3, 4, 32, 16, width=0.1, techniques=TechniqueSettings(pooling="max"))
    mean = Discriminator(3, 4, 32, 16, width=0.1)
    mean.load_state_dict(net.state_dict())
    motions, labels = torch.randn(2, 3, 32, 25), torch.arange(2)
    assert (net.features(motions, labels) > mean.features(motions, labels)).all()


def test_scalar_noise_is_one_number_per_call_and_block():
    net = Discriminator(3, 4, 16, 16, width=0.1, techniques=TechniqueSettings(input_noise_std=0.5))
    noise = net.draw_noise(4, device=torch.device("cpu"), num_batches=2, random=torch.Generator().manual_seed(0))
    assert noise.label is None
    for block in noise.blocks:
        values = block.flatten()
        assert (values[:4] == values[0]).all()
        assert (values[4:] == values[4]).all()
        assert values[0] != values[4]


@pytest.mark.parametrize("kind", ["scalar", "elementwise"])
def test_input_noise_is_added_before_the_activation_of_the_blocks_that_drop_joints(kind):
    techniques = TechniqueSettings(input_noise_std=0.5, input_noise_kind=kind)
    net = Discriminator(3, 4, 32, 16, width=0.1, techniques=techniques)
    noise = net.draw_noise(2, device=torch.device("cpu"))
    frames, joints, channels = (32, 16, 4), (11, 5, 1), (4, 13, 51)
    for block, t, v, c in zip(noise.blocks, frames, joints, channels, strict=True):
        assert block.shape == ((2, 1, 1, 1) if kind == "scalar" else (2, v, t, c))
    motions, labels = torch.randn(2, 3, 32, 25), torch.arange(2)
    silent = noise.map(torch.zeros_like)
    assert torch.equal(net(motions, labels, silent), net.eval()(motions, labels))
    assert not torch.equal(net(motions, labels, noise), net(motions, labels, silent))


def test_label_noise_moves_the_embedding():
    net = Discriminator(3, 4, 16, 16, width=0.1, techniques=TechniqueSettings(label_noise_std=1.0))
    motions, labels = torch.randn(2, 3, 16, 25), torch.tensor([1, 2])
    noise = net.draw_noise(2, device=torch.device("cpu"))
    moved = net(motions, labels, noise)
    state = net.state_dict()
    state["label_emb.weight"] = state["label_emb.weight"].clone()
    state["label_emb.weight"][labels] += noise.label
    net.load_state_dict(state)
    torch.testing.assert_close(net.eval()(motions, labels), moved)


def test_projection_adds_the_product_of_label_and_features():
    net = Discriminator(3, 4, 16, 16, width=0.1, projection=True)
    motions, labels = torch.randn(2, 3, 16, 25), torch.tensor([1, 2])
    before = net(motions, labels)
    torch.nn.init.normal_(net.projection.weight)
    added = (net.features(motions, labels) * net.projection.weight[labels]).sum(dim=1)
    torch.testing.assert_close(net(motions, labels), before + added)
    assert "projection.weight" not in net.published_state()


def test_a_state_of_another_depth_is_refused():
    with pytest.raises(UserError, match="tensors differ, first"):
        Discriminator(num_classes=10).load_published_state(Discriminator(num_classes=9).published_state())
