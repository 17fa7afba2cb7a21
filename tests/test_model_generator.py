import pytest
import torch

from helpers.golden import golden, golden_noise, golden_state, stored
from kgan_ray.benchmarks.literal import LiteralGenerator
from kgan_ray.model import Discriminator, Generator
from kgan_ray.model.batch_norm import BatchStatistics, NormalisedPass
from kgan_ray.settings import UserError
from kgan_ray.skeleton import LAYOUTS, SkeletonGraph


@pytest.fixture(scope="module")
def arrays():
    return golden()


@pytest.fixture
def generator(arrays):
    net = Generator()
    net.load_published_state(golden_state(net.published_state(), "generator"))
    return net


def test_the_generator_has_the_published_number_of_parameters():
    assert sum(p.numel() for p in Generator().parameters()) == 3_944_401


def test_w_and_motions_are_the_golden_ones(arrays, generator):
    generator.eval()
    w = generator.style(arrays["z"], arrays["labels"])
    torch.testing.assert_close(w, arrays["w"], rtol=1e-5, atol=1e-5 * float(arrays["w"].abs().max()))
    motions = generator(arrays["z"], arrays["labels"], golden_noise(arrays["noise_shapes"]))
    torch.testing.assert_close(motions, arrays["g_eval"], rtol=1e-5, atol=1e-5)


def test_training_mode_gives_the_golden_motions_and_running_statistics(arrays, generator):
    motions = generator(arrays["z"], arrays["labels"], golden_noise(arrays["noise_shapes"]))
    # The stored float32 array is itself up to 1.1e-5 from the same computation in float64.
    torch.testing.assert_close(motions, arrays["g_train"], rtol=1e-5, atol=2e-5)
    assert (motions - arrays["g_train"]).norm() < 1e-5 * motions.norm()
    state = generator.published_state()
    torch.testing.assert_close(
        state["st_gcn_networks.1.tcn.1.running_mean"], arrays["g_train_running_mean_1"], rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(
        state["st_gcn_networks.5.residual.1.running_var"],
        arrays["g_train_running_var_5_res"],
        rtol=1e-5,
        atol=1e-6,
    )
    assert state["st_gcn_networks.5.residual.1.num_batches_tracked"] == 1


def test_gradients_of_the_generator_loss_are_the_golden_ones(arrays, generator):
    discriminator = Discriminator()
    discriminator.load_published_state(golden_state(discriminator.published_state(), "discriminator"))
    motions = generator(arrays["z"], arrays["labels"], golden_noise(arrays["noise_shapes"]))
    loss = -discriminator(motions, arrays["labels"]).mean()
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(arrays["g_loss"]), rel=1e-5)
    compared = 0
    for name, parameter in generator.named_parameters():
        if (expected := arrays.get(f"g_grad.{name}")) is not None:
            largest = float(expected.abs().max())
            torch.testing.assert_close(stored(parameter.grad), expected, rtol=1e-4, atol=1e-4 * largest)
            compared += 1
    assert compared == 5


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
@pytest.mark.parametrize(("frames", "coordinates"), [(16, 2), (48, 3)])
@pytest.mark.parametrize("training", [True, False])
def test_every_layout_and_length_agrees_with_the_literal_network(layout, frames, coordinates, training):
    torch.manual_seed(1)
    literal = LiteralGenerator(SkeletonGraph(layout), coordinates, 5, frames, 12, 2).train(training)
    for parameter in literal.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    net = Generator(12, coordinates, 5, frames, 2, layout).train(training)
    net.load_published_state(literal.state_dict())
    z, labels = torch.randn(3, 12), torch.tensor([4, 0, 4])
    noise = [torch.randn(3, 1, t, v) for t, v in net.noise_shapes]
    motions = net(z, labels, noise)
    assert motions.shape == (3, *net.motion_shape)
    torch.testing.assert_close(motions, literal(z, labels, noise), rtol=1e-4, atol=3e-4)
    for name, tensor in literal.state_dict().items():
        torch.testing.assert_close(net.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)


def test_a_published_state_comes_back_as_it_went_in():
    state = golden_state(Generator().published_state(), "generator")
    net = Generator()
    net.load_published_state(state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.published_state().items())
    assert net.published_state().keys() == state.keys()


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_a_state_that_differs_is_refused_by_name(change):
    net = Generator(mapping_depth=2)
    state = net.published_state()
    if change == "missing":
        del state["label_emb.weight"]
    elif change == "extra":
        state["label_emb.weight2"] = torch.zeros(1)
    else:
        state["label_emb.weight"] = torch.zeros(7, 7)
    with pytest.raises(UserError, match=r"1 tensors differ, first label_emb\.weight"):
        net.load_published_state(state)


def test_width_narrows_channels_and_mapping_gain_the_first_weights():
    narrow = Generator(latent_dim=16, num_classes=4, width=0.25, mapping_gain=0.1)
    assert narrow.st_gcn_networks[0].gcn.conv.weight.shape == (3 * 128, 20, 1, 1)
    assert float(narrow.mlp.mlp[0].weight.detach().std()) == pytest.approx(0.1, rel=0.2)
    assert Generator(latent_dim=16, width=0.01).st_gcn_networks[4].noise.weight.numel() == 4


@pytest.mark.parametrize("times", [1, 3])
def test_smoothing_blends_each_frame_with_its_neighbours_so_many_times(times):
    torch.manual_seed(0)
    plain = Generator(latent_dim=16, num_classes=4, frames=16, width=0.25)
    smooth = Generator(latent_dim=16, num_classes=4, frames=16, width=0.25, smoothing=times)
    smooth.load_state_dict(plain.state_dict())
    w, noise = torch.randn(3, 20), plain.split_noise(torch.randn(3, plain.noise_width))
    frames = torch.atanh(plain.synthesise(w, noise).detach().double())  # as the last block gives them
    for _ in range(times):
        longer = torch.cat([frames[:, :, :1], frames, frames[:, :, -1:]], dim=2)
        frames = (longer[:, :, :-2] + 2 * frames + longer[:, :, 2:]) / 4
    torch.testing.assert_close(smooth.synthesise(w, noise), torch.tanh(frames).float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sizes", [{"frames": 40}, {"coordinates": 4}, {"num_classes": 0}])
def test_sizes_that_no_network_has_are_refused(sizes):
    with pytest.raises(UserError, match=next(iter(sizes))):
        Generator(**sizes)


def normalised(norm, x, repeat, statistics):
    norms = NormalisedPass([norm], statistics)
    y = norms.normalise(norm, x, repeat)
    norms.finish()
    return y


def test_batch_norm_of_repeated_values_is_that_of_the_values_told_so():
    x = torch.randn(6, 4, 5)
    told, plain = torch.nn.BatchNorm2d(4), torch.nn.BatchNorm2d(4)
    found = normalised(told, x, 3, BatchStatistics())
    expected = plain(x.repeat_interleave(3, dim=0)[..., None])[::3, ..., 0]
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(told.running_var, plain.running_var)


def test_running_statistics_can_be_the_mean_over_batches():
    norm, batches = torch.nn.BatchNorm2d(4), torch.randn(3, 6, 4, 5)
    for number, x in enumerate(batches):
        normalised(norm, x, 1, BatchStatistics(momentum=1 / (number + 1)))
    torch.testing.assert_close(norm.running_mean, batches.mean(dim=(0, 1, 3)))
    variances = batches.transpose(1, 2).flatten(2).var(dim=2)
    torch.testing.assert_close(norm.running_var, variances.mean(dim=0))


def test_summing_over_one_worker_changes_nothing():
    x = torch.randn(6, 4, 5, requires_grad=True)
    alone, summed = torch.nn.BatchNorm2d(4), torch.nn.BatchNorm2d(4)
    statistics = BatchStatistics(sum_over_workers=lambda total: total)
    direction = torch.randn(6, 4, 5)
    outcomes = []
    for norm, how in ((alone, BatchStatistics()), (summed, statistics)):
        y = normalised(norm, x, 1, how)
        outcomes.append((y, *torch.autograd.grad((y * direction).sum(), [x, norm.weight]), norm.running_var))
    for found, expected in zip(*outcomes, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
