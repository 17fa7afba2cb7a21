import copy

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing

from helpers.networks import NUM_CLASSES, batch, motion_spec, narrow
from kgan_ray.benchmarks.literal import LiteralDiscriminator, LiteralGAN, LiteralGenerator
from kgan_ray.model.sampling import BLOCK
from kgan_ray.model.variation import quantile
from kgan_ray.settings import Settings, override
from kgan_ray.skeleton import NTU25, SkeletonGraph, pair_layout
from kgan_ray.training import distributed
from kgan_ray.training.gan import GAN
from kgan_ray.training.networks import build_networks, standardise

TECHNIQUES = {
    "techniques.pooling": "max",
    "techniques.input_noise_std": 0.3,
    "techniques.input_noise_kind": "elementwise",
    "techniques.label_noise_std": 0.5,
    "techniques.mask_quantile": 0.7,
    "model.standardised": True,
}


@pytest.fixture
def spec():
    return motion_spec()


def losses_of(gan, steps=6):
    motions, labels = batch(gan.spec)
    rows = [gan.step(motions, labels) for _ in range(steps)]
    return [{name: float(value) for name, value in row.items()} for row in rows]


@pytest.fixture
def double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def doubled(gan):
    gan.generator.double()
    gan.discriminator.double()
    return gan


def in_double(net):
    net.double()
    for name in ("adjacency", "unpool"):
        if hasattr(net, name):
            setattr(net, name, [None if t is None else t.double() for t in getattr(net, name)])
    return net


def test_twenty_steps_give_the_losses_of_the_published_step_written_down_literally(spec, double_precision):
    """In float64: in float32, Adam's first steps, as long for tiny gradients as for large, blow rounding up."""
    settings = override(Settings(), {"model.latent_dim": 16, "training.batch_size": 4, "seed": 3})
    gan, graph = doubled(GAN(settings, spec)), SkeletonGraph(NTU25)
    literal = LiteralGAN(
        in_double(LiteralGenerator(graph, 3, NUM_CLASSES, spec.frames, 16, settings.model.mapping_depth)),
        in_double(LiteralDiscriminator(graph, 3, NUM_CLASSES, spec.frames, 16)),
    )
    literal.generator.load_state_dict(gan.generator.published_state())
    literal.discriminator.load_state_dict(gan.discriminator.published_state())
    random = torch.Generator()
    random.set_state(gan.draws.random.get_state())
    for step in range(20):
        motions, labels = batch(spec, size=4, seed=step)
        z = torch.randn(4, 16, generator=random)
        noise = gan.generator.split_noise(torch.randn(4, gan.generator.noise_width, generator=random))
        mix = torch.rand(4, generator=random)[:, None, None, None]
        second = noise
        if step % 5 == 0:
            second = gan.generator.split_noise(torch.randn(4, gan.generator.noise_width, generator=random))
        expected = literal.step(motions, labels, z, mix, noise, second)
        found = gan.step(motions, labels)
        for name, value in expected.items():
            assert float(found[name]) == pytest.approx(value, rel=1e-6), f"{name} at step {step}"


def test_the_same_seed_gives_the_same_steps_and_another_seed_others(spec):
    first, again, other = (losses_of(GAN(narrow({"seed": seed}), spec)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_torchs_global_random_state_is_left_alone(spec):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    gan = GAN(narrow(TECHNIQUES), spec)
    gan.step(*batch(spec))
    gan.sample(torch.arange(3))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_generator_steps_first_and_then_every_fifth_time(spec):
    gan = GAN(narrow(), spec)
    changed = []
    for _ in range(7):
        before = gan.generator.edge_importance[3].detach().clone()
        gan.step(*batch(spec))
        changed.append(not torch.equal(before, gan.generator.edge_importance[3]))
    assert changed == [True, False, False, False, False, True, False]


@pytest.mark.parametrize(
    "overrides", [{}, TECHNIQUES, {"training.ema_decay": 0.9}], ids=["plain", "techniques", "ema"]
)
def test_a_loaded_state_goes_on_bit_for_bit(spec, overrides):
    gan = GAN(narrow(overrides), spec)
    losses_of(gan, 2)
    state = gan.state_dict()
    state["weights"] = {name: tensor.clone() for name, tensor in state["weights"].items()}
    again = GAN(narrow({**overrides, "seed": 9}), spec)
    again.load_state_dict(state)
    assert losses_of(again) == losses_of(gan)
    labels = torch.arange(4)
    assert torch.equal(again.sample(labels), gan.sample(labels))


def test_a_loaded_state_may_lie_in_another_order_in_memory(spec):
    gan = GAN(narrow(), spec)
    losses_of(gan, 2)
    state = copy.deepcopy(gan.state_dict())
    moments = [kept for adam in state["optimisers"].values() for kept in adam["state"].values()]
    assert not all(tensor.is_contiguous() for kept in moments for tensor in kept.values())
    for kept in moments:
        kept |= {name: tensor.contiguous() for name, tensor in kept.items()}
    again = GAN(narrow(), spec)
    again.load_state_dict(state)
    assert losses_of(again) == losses_of(gan)


NEUTRAL = {
    "techniques.input_noise_kind": "elementwise",
    "techniques.mask_latent_std": 0.5,
    "techniques.mask_noise_std": 0.7,
    "training.auxiliary_weight": 3.0,
    "training.auxiliary_generator_weight": 3.0,
}


def test_techniques_that_are_off_change_no_bit(spec):
    assert losses_of(GAN(narrow(NEUTRAL), spec)) == losses_of(GAN(narrow(), spec))


@pytest.mark.parametrize(
    "overrides",
    [
        {"techniques.pooling": "max"},
        {"techniques.input_noise_std": 0.5},
        {"techniques.label_noise_std": 0.5},
        {"techniques.mask_quantile": 0.5},
        {"model.projection": True},
        {"model.auxiliary_classifier": True},
        {"model.projection": True, "model.auxiliary_classifier": True},
        {"model.mapping_gain": 0.5},
        {"model.smoothing": 1},
        {"training.discriminator_learning_rate": 1e-3},
        {"training.generator_learning_rate": 1e-3},
        {"training.precision": "bfloat16"},
    ],
    ids=lambda overrides: next(iter(overrides)),
)
def test_each_option_trains_to_other_finite_losses(overrides):
    spec = motion_spec(frames=32)  # at 16 frames a single place is left to pool
    plain, changed = losses_of(GAN(narrow(), spec)), losses_of(GAN(narrow(overrides), spec))
    assert all(torch.tensor(list(row.values())).isfinite().all() for row in changed)
    assert plain != [{name: row[name] for name in plain[0]} for row in changed]


def test_the_mask_puts_noise_on_the_share_of_a_fake_that_its_quantile_leaves(spec):
    gan = GAN(narrow({"techniques.mask_quantile": 0.7, "techniques.mask_noise_std": 0.5}), spec)
    plain = GAN(narrow(), spec)
    z, labels = torch.randn(8, 12), torch.arange(8) % 4
    with torch.no_grad():
        added = gan.judged_fakes(z, labels) - plain.judged_fakes(z, labels)
    moved = added != 0
    assert float(moved.float().mean()) == pytest.approx(0.3, abs=0.01)
    assert float(added[moved].std()) == pytest.approx(0.5, rel=0.1)
    for net in (gan.generator, plain.generator):  # the second pass leaves running statistics alone
        assert net.st_gcn_networks[1].tcn[1].num_batches_tracked == 1


def test_the_mask_chooses_what_reacts_most_to_the_latent(spec):
    settings = narrow({"techniques.mask_quantile": 0.5, "techniques.mask_noise_std": 1.0})
    gan = GAN(settings, spec)
    z, labels = torch.randn(8, 12), torch.arange(8) % 4
    width = gan.generator.noise_width
    noise = gan.generator.split_noise(
        torch.randn(8, width, generator=torch.Generator().manual_seed(settings.seed))
    )
    technique = torch.Generator()
    technique.set_state(gan.draws.technique_random.get_state())
    moved_z = z + 0.01 * torch.randn(8, 12, generator=technique)
    with torch.no_grad():
        fake, moved = gan.generator(z, labels, noise), gan.generator(moved_z, labels, noise)
        judged = gan.judged_fakes(z, labels)
    change = (fake - moved).abs()
    assert torch.equal(judged != fake, change >= change.quantile(0.5))


@pytest.mark.parametrize("q", [0.0, 0.3, 0.5, 0.77, 1.0])
def test_our_quantile_selects_what_torchs_does(q):
    values = torch.rand(501)
    assert torch.equal(values >= quantile(values, q), values >= torch.quantile(values, q))


class Bodies:
    """Batches of people, whose joints move about their places by as much as `moves` (3, V) says."""

    def __init__(self, body, moves):
        self.body, self.moves = body, moves

    def batch(self, number):
        random = torch.Generator().manual_seed(number)
        return self.body[:, None] + self.moves[:, None] * torch.randn(
            64, 3, 16, len(self.moves[0]), generator=random
        ), None


def test_standardised_networks_begin_at_the_mean_body_and_keep_what_never_moves(spec):
    settings = narrow({"model.standardised": True, "training.ema_decay": 0.9})
    gan = GAN(settings, spec)
    random = torch.Generator().manual_seed(4)
    body, moves = torch.rand(3, 25, generator=random) - 0.5, torch.rand(3, 25, generator=random) * 0.2 + 0.05
    root, joints = spec.layout.root, [joint for joint in range(25) if joint != spec.layout.root]
    moves[:, root] = 0  # centred
    bodies = Bodies(body, moves)
    standardise(gan.networks.values(), bodies)
    least = 0.3 * moves[:, joints].mean()
    for network in gan.networks.values():
        mean, deviation = network.standard.mean, network.standard.deviation
        torch.testing.assert_close(mean[:, root], body[:, root])
        torch.testing.assert_close(mean[:, joints], (body - body[:, [root]])[:, joints], rtol=0, atol=5e-3)
        torch.testing.assert_close(deviation, torch.where(moves > 0, moves.clamp(min=least), 0), rtol=0.01, atol=0)

    generated = gan.sample(torch.arange(64) % 4)
    assert (generated[..., root] - body[:, root, None]).abs().max() < 1e-6
    distance = (generated.mean(dim=(0, 2)) - body).abs()
    assert (distance[:, joints] < 2 * moves[:, joints]).all()
    gan.average.st_gcn_networks[-1].tcn[0].bias.data.fill_(50)
    assert gan.sample(torch.arange(4))[..., joints].max() == 1  # as recordings are clamped
    beyond = (gan.generator.standard.restored(torch.full((1, 1, 3, 25), 100.0)) - body)[..., joints]
    assert (beyond > 4 * moves[:, joints]).all()
    assert (beyond < 1.25 * 7 * moves[:, joints]).all()  # of 1.6 million draws none is seven deviations away

    judged = gan.discriminator.judged(bodies.batch(0)[0])
    assert (judged[..., root].abs() < 1e-5).all()
    assert 0.9 < judged[..., joints].std() <= 1.01
    again = GAN(settings, spec)
    again.load_state_dict(gan.state_dict())
    assert torch.equal(again.sample(torch.arange(4)), gan.sample(torch.arange(4)))


def test_a_second_body_counts_from_its_own_root():
    """Wherever it stands, it is the same body: its joints deviate as little as those of the first."""
    spec = motion_spec().model_copy(update={"layout": pair_layout(NTU25)})
    gan = GAN(narrow({"model.standardised": True}), spec)
    first, second = spec.layout.roots
    random = torch.Generator().manual_seed(4)
    moves = torch.full((3, 50), 0.05)
    moves[:, first] = 0

    class Pairs(Bodies):
        def batch(self, number):
            motions, _ = super().batch(number)
            motions[..., 25:] += torch.randn(64, 3, 1, 1, generator=random)
            return motions, None

    standardise(gan.networks.values(), Pairs(torch.rand(3, 50, generator=random), moves))
    deviation = gan.generator.standard.deviation
    assert (deviation[:, second] > 0.9).all()
    of_bodies = [deviation[:, joint] for joint in range(50) if joint not in (first, second)]
    assert torch.stack(of_bodies).max() < 0.1
    motions, standard = torch.rand(4, 3, 16, 50, generator=random), gan.generator.standard
    motions[..., first] = standard.mean[:, None, first]  # it never moves
    standard.reach.fill_(1e4)  # a tanh so wide is a straight line
    restored = standard.restored(standard.standardised(motions).transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(restored, motions, rtol=0, atol=0.01)


def test_the_average_follows_the_generator_and_is_what_is_sampled(spec):
    gan = GAN(narrow({"training.ema_decay": 0.3, "training.n_critic": 2}), spec)
    for decay in (1 / 10, 2 / 11, 3 / 12, 0.3):  # it reaches back far only when there is a past
        before = gan.average.mlp.mlp[0].weight.clone()
        losses_of(gan, steps=2)
        expected = decay * before + (1 - decay) * gan.generator.mlp.mlp[0].weight
        torch.testing.assert_close(gan.average.mlp.mlp[0].weight, expected)
    labels = torch.arange(3)
    sampled = gan.sample(labels)
    gan.average = None
    assert not torch.equal(sampled, gan.sample(labels))


RECALIBRATED = torch.arange(512) % 4


@pytest.mark.parametrize("average", [0.0, 0.75])
def test_recalibration_changes_what_is_sampled_and_not_what_is_trained(spec, average):
    plain, gan = (GAN(narrow({"training.ema_decay": average}), spec) for _ in range(2))
    losses_of(plain, 3), losses_of(gan, 3)
    before = gan.sample(RECALIBRATED[:8])
    gan.recalibrate(RECALIBRATED)
    assert not torch.allclose(gan.sample(RECALIBRATED[:8]), before, atol=1e-2)
    assert losses_of(gan, 4) == losses_of(plain, 4)


def test_a_recalibrated_generator_gives_what_its_batches_gave_to_every_motion_alone(spec):
    gan = GAN(narrow(), spec)
    losses_of(gan, 3)
    gan.recalibrate(RECALIBRATED)
    motions = gan.sample(RECALIBRATED)
    assert torch.allclose(gan.sample(RECALIBRATED[:3]), motions[:3], atol=1e-6)
    generator, random = gan.generator, torch.Generator().manual_seed(0)
    width = generator.latent_dim + generator.noise_width
    numbers = torch.cat([torch.randn(BLOCK, width, generator=random) for _ in range(512 // BLOCK)])
    z, noise = numbers.split([generator.latent_dim, generator.noise_width], dim=1)
    in_batch = generator(z, RECALIBRATED, generator.split_noise(noise))  # in training mode
    assert (motions - in_batch).abs().mean() < 1e-2


def test_the_auxiliary_classifier_learns_the_classes_and_its_loss_counts_by_its_weight(spec):
    strong = {"training.discriminator_learning_rate": 3e-3, "training.auxiliary_weight": 10.0}
    gan = GAN(narrow({"model.auxiliary_classifier": True, **strong}), spec)
    motions, labels = batch(spec)
    motions += labels[:, None, None, None] * 0.3
    class_losses = [float(gan.step(motions, labels)["discriminator/class_loss"]) for _ in range(100)]
    assert min(class_losses) < 0.1 * class_losses[0]
    weights = (0.0, 2.0)
    first = [
        GAN(narrow({"model.auxiliary_classifier": True, "training.auxiliary_weight": w}), spec).step(
            motions, labels
        )
        for w in weights
    ]
    added = float(first[1]["discriminator/loss"] - first[0]["discriminator/loss"])
    assert added == pytest.approx(2 * float(first[0]["discriminator/class_loss"]), rel=1e-4)


def test_the_generators_share_of_the_class_loss_has_a_weight_of_its_own(spec):
    def after_a_step(weight: float) -> torch.Tensor:
        settings = {"model.auxiliary_classifier": True, "training.auxiliary_generator_weight": weight}
        gan = GAN(narrow(settings), spec)
        gan.step(*batch(spec))
        assert torch.equal(gan.discriminator.fcn.weight, alone.discriminator.fcn.weight)
        return gan.generator.label_emb.weight.detach()

    alone = GAN(narrow({"model.auxiliary_classifier": True}), spec)
    alone.step(*batch(spec))
    assert not torch.equal(after_a_step(0.0), after_a_step(5.0))


@pytest.mark.parametrize("option", ["model.projection", "model.auxiliary_classifier"])
def test_what_judges_the_class_is_not_told_it(spec, option):
    """A classifier that sees the label beside the motion reads it there, and teaches the generator nothing."""
    gan = GAN(narrow({option: True}), spec)
    motions, labels = batch(spec)
    told, untold = gan.discriminator, GAN(narrow(), spec).discriminator
    other = (labels + 1) % 4
    assert torch.equal(told.features(motions, labels), told.features(motions, other))
    assert not torch.equal(untold.features(motions, labels), untold.features(motions, other))


def test_learning_rates_are_each_networks_own(spec):
    gan = GAN(
        narrow({"training.generator_learning_rate": 1e-4, "training.discriminator_learning_rate": 4e-4}), spec
    )
    assert gan.generator_adam.param_groups[0]["lr"] == 1e-4
    assert gan.discriminator_adam.param_groups[0]["lr"] == 4e-4


def test_rates_fall_over_the_second_half(spec):
    gan = GAN(narrow({"training.learning_rate_decay": 0.1, "training.steps": 9}), spec)
    rates = []
    for _ in range(9):
        losses_of(gan, steps=1)
        rates.append([adam.param_groups[0]["lr"] / 2e-4 for adam in (gan.generator_adam, gan.discriminator_adam)])
    share = [1, 1, 1, 1, 0.9, 0.7, 0.5, 0.3, 0.1]
    assert rates == [[pytest.approx(of_all)] * 2 for of_all in share]


def test_bfloat16_stays_near_float32(spec):
    exact, rounded = (
        losses_of(GAN(narrow(), spec)),
        losses_of(GAN(narrow({"training.precision": "bfloat16"}), spec)),
    )
    assert rounded[-1]["discriminator/gradient_penalty"] == pytest.approx(
        exact[-1]["discriminator/gradient_penalty"], rel=0.1
    )


@pytest.mark.parametrize("fastest", ["float32", "bfloat16"])
def test_auto_trains_as_the_precision_that_it_stands_for(spec, monkeypatch, fastest):
    monkeypatch.setattr("kgan_ray.training.gan.fastest_precision", lambda device: fastest)
    named, auto = (losses_of(GAN(narrow({"training.precision": kind}), spec)) for kind in (fastest, "auto"))
    assert auto == named


def test_networks_depend_on_the_seed_alone(spec):
    torch.manual_seed(1)
    first = build_networks(narrow(), spec)
    torch.manual_seed(2)
    second = build_networks(narrow(), spec)
    for a, b in zip(first, second, strict=True):
        assert all(
            torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
        )


STEPS_TOGETHER = 20
TOGETHER = ({}, TECHNIQUES)


def work_together(rank, processes, workers, folder):
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=processes)
    takes_part = distributed.take_part(workers)
    results = [train_together(rank, workers, overrides) if takes_part else None for overrides in TOGETHER]
    torch.save(results, f"{folder}/rank{rank}")
    distributed.end_worker()


class Shares:
    """One worker's shares of batches."""

    def __init__(self, spec, rank=0, workers=1):
        self.spec, self.own = spec, slice(rank * 8 // workers, (rank + 1) * 8 // workers)

    def batch(self, number):
        return tuple(part[self.own] for part in batch(self.spec, seed=number))


def begun(overrides, shares):
    gan = doubled(GAN(narrow(overrides), shares.spec))
    if gan.settings.model.standardised:
        standardise(gan.networks.values(), shares)
    return gan


def train_together(rank, workers, overrides):
    """Take steps on this worker's share of each batch; return their losses and the weights at the end."""
    shares, rows = Shares(motion_spec(), rank, workers), []
    gan = begun(overrides, shares)
    for step in range(STEPS_TOGETHER):
        losses = gan.step(*shares.batch(step))
        rows.append({name: float(value) for name, value in losses.items()})
    if rank == 0:
        gan.sample(torch.arange(3))  # enters no collective
    return rows, gan.state_dict()["weights"]


@pytest.mark.parametrize(("processes", "workers"), [(2, 2), (3, 2), (4, 4)], ids=["two", "two of three", "four"])
def test_several_workers_do_what_one_does_with_the_whole_batch(
    spec, tmp_path, processes, workers, double_precision
):
    """In float64, as above: in float32 a bias whose gradient is all rounding goes another way on another processor."""
    torch.multiprocessing.spawn(work_together, args=(processes, workers, str(tmp_path)), nprocs=processes)
    by_rank = [torch.load(tmp_path / f"rank{rank}") for rank in range(processes)]
    assert by_rank[workers:] == [[None] * len(TOGETHER)] * (processes - workers)
    for overrides, *results in zip(TOGETHER, *by_rank[:workers], strict=True):
        alone = begun(overrides, Shares(spec))
        for step in range(STEPS_TOGETHER):
            for name, value in alone.step(*batch(spec, seed=step)).items():
                shares = [rows[step][name] for rows, _ in results]
                assert sum(shares) / workers == pytest.approx(float(value), rel=1e-9, abs=1e-12), (step, name)
        weights = results[0][1]
        for name, tensor in alone.state_dict()["weights"].items():
            assert all(torch.equal(weights[name], others[name]) for _, others in results[1:]), name
            torch.testing.assert_close(
                weights[name], tensor, rtol=1e-9, atol=1e-12, msg=lambda text, n=name: f"{n}: {text}"
            )
