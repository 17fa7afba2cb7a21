"""Steps a second of training, beside the published step and beside double differentiation; what techniques cost."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from kgan_ray.benchmarks.literal import LiteralDiscriminator, LiteralGAN, LiteralGenerator
from kgan_ray.benchmarks.rows import Row
from kgan_ray.benchmarks.timing import ntu60_gan, peak, seconds
from kgan_ray.skeleton import NTU25, SkeletonGraph
from kgan_ray.training.gan import GAN
from kgan_ray.training.losses import discriminator_loss, gradient_penalty

Work = Callable[[], object]

BATCH = 32
ROUNDS = 3
PUBLISHED_STEP = 218.0  # GFLOP of a step as the public implementation computes it
TECHNIQUES: dict[str, dict[str, object]] = {
    "max pooling": {"techniques.pooling": "max"},
    "input noise": {"techniques.input_noise_std": 0.1},
    "label noise": {"techniques.label_noise_std": 0.1},
    "quantile mask": {"techniques.mask_quantile": 0.5},
}
WAYS: dict[str, dict[str, object]] = {"bfloat16": {"training.precision": "bfloat16"}}
WAYS_ON_A_GPU: dict[str, dict[str, object]] = {
    "TF32": {"training.precision": "tf32"},
    "CUDA graph": {"training.cuda_graph": True},
    "CUDA graph, TF32": {"training.cuda_graph": True, "training.precision": "tf32"},
    "CUDA graph, bfloat16": {"training.cuda_graph": True, "training.precision": "bfloat16"},
}


def random_batch(device: str | torch.device, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return motions (32, C, T, V) of the shapes of NTU-60 and labels (32,), the same on every device."""
    random = torch.Generator().manual_seed(seed)
    motions = torch.rand(BATCH, 3, 64, 25, generator=random) * 2 - 1
    return motions.to(device), torch.arange(BATCH, device=device)


def training(device: str) -> list[Row]:
    """Measure steps a second, of ours in several ways and of the published step written down literally, in turns."""
    motions, labels = random_batch(device)
    published = ntu60_gan(device)
    ways = WAYS if device == "cpu" else WAYS | WAYS_ON_A_GPU
    changed = {**TECHNIQUES, **ways}
    gans = {"published": published} | {name: ntu60_gan(device, changes) for name, changes in changed.items()}
    cycle = published.settings.training.n_critic
    work: dict[str, Work] = {name: partial(gan.step, motions, labels) for name, gan in gans.items()}
    for step in work.values():
        seconds(step, device, cycle)  # the first cycle warms up
    work["literal"] = literal_step(published, motions, labels)
    best, best_peak = dict.fromkeys(work, float("inf")), 0.0
    for _ in range(ROUNDS):
        best_peak = max(best_peak, peak(device))
        for name, step in work.items():
            best[name] = min(best[name], seconds(step, device, cycle))
    ours = best["published"]
    rows = [
        Row("matrix-product peak, float32", best_peak, "GFLOP/s", "gemm_gflops"),
        Row("training, published model", 1 / ours, "steps/s", "steps_per_second"),
        *_each_networks_step(published, motions, labels, device),
        Row(
            "training: steps x 218 GFLOP / peak",
            PUBLISHED_STEP / ours / best_peak,
            name="steps_times_published_flops_per_peak",
        ),
    ]
    return [
        *rows,
        Row("training, literal step", 1 / best["literal"], "steps/s"),
        Row("times as fast", best["literal"] / ours, name="times_literal"),
        *(Row(f"training, {name}", 1 / best[name], "steps/s") for name in ways),
        *(Row(f"step time with {name}", best[name] / ours, "x") for name in TECHNIQUES),
    ]


def literal_step(gan: GAN, motions: Tensor, labels: Tensor) -> Work:
    """Return the published step on the device of `gan`, whose random numbers are drawn once: it draws none itself."""
    graph = SkeletonGraph(NTU25)
    with gan.device:
        z, mix = torch.randn(BATCH, 512), torch.rand(BATCH, 1, 1, 1)
        noise = gan.generator.split_noise(torch.randn(BATCH, gan.generator.noise_width))
        literal = LiteralGAN(
            LiteralGenerator(graph, 3, 60, 64, 512, 4), LiteralDiscriminator(graph, 3, 60, 64, 512)
        )
    return partial(literal.step, motions, labels, z, mix, noise, noise)


def _each_networks_step(gan: GAN, motions: Tensor, labels: Tensor, device: str) -> list[Row]:
    """Measure a discriminator step, with both ways of differentiating it, and a generator step, in turns."""
    z = gan.draws.normal(len(motions), gan.settings.model.latent_dim)
    work: dict[str, Work] = {
        "discriminator": partial(gan.discriminator_step, motions, labels, z),
        "doubly": partial(twice_differentiated_step, gan, motions, labels, z),
        "generator": partial(gan.generator_step, z, labels),
    }
    best = dict.fromkeys(work, float("inf"))
    for _ in range(ROUNDS):
        for name, step in work.items():
            best[name] = min(best[name], seconds(step, device))
    return [
        Row(
            "training: discriminator's step alone",
            1 / best["discriminator"],
            "steps/s",
            "discriminator_steps_per_second",
        ),
        Row("training: the same, differentiated twice", 1 / best["doubly"], "steps/s"),
        Row("times as fast, gradients written out", best["doubly"] / best["discriminator"], name="times_autograd"),
        Row("training: generator's step alone", 1 / best["generator"], "steps/s", "generator_steps_per_second"),
    ]


def twice_differentiated_step(gan: GAN, motions: Tensor, labels: Tensor, z: Tensor) -> None:
    """Take the discriminator's step by autograd's double differentiation instead of the gradients written out."""
    net = gan.discriminator
    with torch.no_grad():
        fake = gan.judged_fakes(z, labels)
    mix = gan.draws.uniform(len(motions))[:, None, None, None]
    real_score, fake_score = net(torch.cat([motions, fake]), labels.repeat(2)).chunk(2)
    penalty = gradient_penalty(net, motions, fake, labels, mix)
    loss = discriminator_loss(real_score, fake_score) + gan.settings.training.gradient_penalty * penalty
    gan.discriminator_adam.zero_grad()
    loss.backward()
    gan.discriminator_adam.step()
