"""The GAN: both networks, both optimisers, the generator's average, the random state, and one training step.

It knows no Ray and no data. With several workers (torch.distributed) each takes its rows of everything: n workers
with batch B / n do what one does with batch B.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kgan_ray.devices import fastest_precision, products
from kgan_ray.limits import keep_freed_memory
from kgan_ray.model import Discriminator, Generator
from kgan_ray.model.batch_norm import BatchStatistics
from kgan_ray.model.discriminator_pass import DiscriminatorPass
from kgan_ray.model.sampling import recalibrate, sample
from kgan_ray.model.variation import quantile
from kgan_ray.settings import Settings, UserError
from kgan_ray.skeleton import MotionSpec
from kgan_ray.training import distributed
from kgan_ray.training.captured import CapturedStep, Metrics, TrainedState
from kgan_ray.training.draws import Draws
from kgan_ray.training.losses import (
    discriminator_loss_gradient,
    generator_loss,
    interpolate,
    slope_penalty_with_gradient,
)
from kgan_ray.training.networks import average_decay, build_adam, build_networks, update_average


class GAN:
    """Everything that trains. `state_dict` names in one place all that must survive a restart."""

    def __init__(self, settings: Settings, spec: MotionSpec, device: str | torch.device = "cpu") -> None:
        self.settings, self.spec, self.device = settings, spec, torch.device(device)
        self.step_count = 0
        if self.device.type == "cpu":
            keep_freed_memory()
        generator, discriminator = build_networks(settings, spec)
        self.generator, self.discriminator = generator.to(self.device), discriminator.to(self.device)
        if distributed.world_size() > 1:
            self.generator.statistics = BatchStatistics(
                num_workers=distributed.world_size(), sum_over_workers=distributed.sum_over_workers
            )
        self.average = copy.deepcopy(self.generator).requires_grad_(False) if settings.training.ema_decay else None
        training = settings.training
        self.precision = fastest_precision(self.device) if training.precision == "auto" else training.precision
        self._taken_in: float | Tensor = 0.0  # the generator's share in a new average
        self.generator_adam = build_adam(self.generator, training.generator_learning_rate, training)
        self.discriminator_adam = build_adam(self.discriminator, training.discriminator_learning_rate, training)
        self.optimisers = {"generator": self.generator_adam, "discriminator": self.discriminator_adam}
        self.draws = Draws(settings.seed, self.device)
        self._generator_metrics: Metrics = {}
        self._captured: CapturedStep | None = None

    @property
    def networks(self) -> dict[str, Generator | Discriminator]:
        """The generator, the discriminator, and the average if there is one."""
        networks = {"generator": self.generator, "discriminator": self.discriminator, "average": self.average}
        return {name: network for name, network in networks.items() if network is not None}

    def step(self, motions: Tensor, labels: Tensor) -> Metrics:
        """Take one discriminator step, and every `n_critic`-th time, from the first on, a generator step on the same z.

        motions (N, C, T, V) and labels (N,) are this worker's share of the global batch. The metrics are scalars on
        the device, means over this worker's share; nothing waits for the device. Raises UserError where the settings
        ask for a CUDA graph and there is no GPU, or more than one worker.
        """
        with_generator = self.step_count % self.settings.training.n_critic == 0
        self._keep_to_schedule()
        with products(tf32=self.precision == "tf32"):
            if self.settings.training.uses_cuda_graph:
                self._captured = self._captured or self._capture()
                metrics = self._captured(self._compute, motions, labels, with_generator)
            else:
                metrics = self._compute(motions, labels, with_generator)
        if with_generator:
            self._generator_metrics = {name: t for name, t in metrics.items() if name.startswith("generator/")}
        self.step_count += 1
        return metrics | self._generator_metrics

    def _compute(self, motions: Tensor, labels: Tensor, with_generator: bool) -> Metrics:
        """Do a step's whole work on the device; which kind it is, is decided outside."""
        z = self.draws.normal(len(motions), self.settings.model.latent_dim)
        metrics = self.discriminator_step(motions, labels, z)
        if with_generator:
            metrics |= self.generator_step(z, labels)
            if self.average is not None:
                update_average(self.average, self.generator, self._taken_in)
        return metrics

    def _keep_to_schedule(self) -> None:
        """Set what is another number at each step: learning rates that fall, and what the average takes in."""
        training = self.settings.training
        if training.learning_rate_decay != 1:
            share = training.share_of_rates(self.step_count)
            for adam in self.optimisers.values():
                for group in adam.param_groups:
                    group["lr"] = self._scalar(group["lr"], share * adam.defaults["lr"])
        if self.average is not None:
            decay = average_decay(training.ema_decay, self.step_count // training.n_critic)
            self._taken_in = self._scalar(self._taken_in, 1 - decay)

    def _scalar(self, earlier: float | Tensor, value: float) -> float | Tensor:
        """Return a number as a step takes it; one that is recorded reads it at the same place on the device each time."""
        if not self.settings.training.uses_cuda_graph:
            return value
        return earlier.fill_(value) if isinstance(earlier, Tensor) else torch.full((), value, device=self.device)

    def _capture(self) -> CapturedStep:
        """Return the step as a CUDA graph, recorded when it first runs.

        Not in the constructor: a GAN that was trained so is sampled anywhere.
        """
        if self.device.type != "cuda":
            raise UserError(
                f"training.cuda_graph: a CUDA graph needs a GPU, and this run is on {self.device.type}"
            )
        if distributed.world_size() > 1:
            raise UserError(f"training.cuda_graph: needs a single worker, found {distributed.world_size()}")
        generators = [self.draws.random, self.draws.technique_random]
        return CapturedStep(TrainedState(list(self.networks.values()), list(self.optimisers.values()), generators))

    def discriminator_step(self, motions: Tensor, labels: Tensor, z: Tensor) -> Metrics:
        """Move the discriminator by the loss and the gradient penalty, on these motions and on fakes of z."""
        net, training, size = self.discriminator, self.settings.training, len(motions)

        # Forward: real motions, fakes and interpolates of the two, one after the other along N.
        real_and_fake, between = slice(0, 2 * size), slice(2 * size, 3 * size)
        with torch.no_grad():
            fake = self.judged_fakes(z, labels)
            mix = self.draws.uniform(size)[:, None, None, None]
            motions, fake = net.judged(motions), net.judged(fake)
            motions = torch.cat([motions, fake, interpolate(motions, fake, mix)])
        all_labels = labels.repeat(3)
        noise = self.draws.discriminator_noise(net, size, num_batches=3)
        weights = net.weights()
        label_terms = weights.label.terms(net.embedded(all_labels, noise.label))
        blocks = DiscriminatorPass(net, weights, self._dtype)
        features = blocks.forward(motions, label_terms, noise).requires_grad_()

        # Scores and losses, and what they send down to the features: for the interpolates, the slope of their score.
        scores = net.score(features, all_labels)
        real_score, fake_score, _ = scores.detach().view(3, size).mean(dim=1)
        metrics = {"discriminator/real_score": real_score, "discriminator/fake_score": fake_score}
        loss = fake_score - real_score
        class_losses = []
        if self.settings.model.auxiliary_classifier:  # on real motions alone, as in WGAN-GP's own AC-GAN
            class_loss = F.cross_entropy(net.class_scores(features[:size]), labels)
            metrics["discriminator/class_loss"] = class_loss.detach()
            class_losses = [training.auxiliary_weight * class_loss]
            loss = loss + class_losses[0].detach()
        by_scores = discriminator_loss_gradient(size, self.device, slope=1.0)
        (downward,) = torch.autograd.grad(
            [scores, *class_losses], features, [by_scores, *(None for _ in class_losses)], retain_graph=True
        )

        # Slope of the score along the interpolates, and its penalty.
        slope = blocks.transposed(downward, slopes_of=between)
        penalty, direction = slope_penalty_with_gradient(slope, training.gradient_penalty)

        # Tangent: the penalty's gradient goes forward; d(penalty)/d(head) = d(score of the tangent)/d(head).
        change = net.change_of_score(blocks.tangent(direction, between), labels)

        # Gradients to parameters: the blocks' are written out, autograd takes them on and adds the head's.
        gradients, term_gradients = blocks.gradients(real_and_fake)
        term_gradients[between].zero_()  # the label shifts what enters the blocks, not its slope
        self.discriminator_adam.zero_grad()
        by_loss = discriminator_loss_gradient(size, self.device, slope=0.0)
        torch.autograd.backward(
            [*weights.tensors(), label_terms, scores, *class_losses, change],
            [*gradients, term_gradients, by_loss, *(None for _ in class_losses), by_scores[between]],
        )
        distributed.average_gradients(net.parameters())
        self.discriminator_adam.step()
        metrics["discriminator/gradient_penalty"] = penalty
        metrics["discriminator/loss"] = torch.add(loss, penalty, alpha=training.gradient_penalty)
        return metrics

    def generator_step(self, z: Tensor, labels: Tensor) -> Metrics:
        """Move the generator by the discriminator's score of fakes of z."""
        net = self.discriminator

        # Forward.
        fake = net.judged(self.judged_fakes(z, labels))
        noise = self.draws.discriminator_noise(net, len(z), num_batches=1)
        with torch.no_grad():
            weights = net.weights()
            label_terms = weights.label.terms(net.embedded(labels, noise.label))
        blocks = DiscriminatorPass(net, weights, self._dtype)
        features = blocks.forward(fake, label_terms, noise).requires_grad_()

        # Scores and losses.
        loss = generator_loss(net.score(features, labels))
        metrics = {"generator/loss": loss.detach()}
        if self.settings.model.auxiliary_classifier:
            class_loss = F.cross_entropy(net.class_scores(features), labels)
            metrics["generator/class_loss"] = class_loss.detach()
            loss = loss + self.settings.training.auxiliary_generator_weight * class_loss
        (downward,) = torch.autograd.grad(loss, features)

        # Gradients to parameters, by way of the fakes.
        self.generator_adam.zero_grad()
        fake.backward(blocks.transposed(downward, keep=False))
        distributed.average_gradients(self.generator.parameters())
        self.generator_adam.step()
        return metrics

    def judged_fakes(self, z: Tensor, labels: Tensor) -> Tensor:
        """Generate fakes (N, C, T, V) of z, with noise on their most sensitive parts if the quantile mask is on."""
        noise = self.draws.generator_noise(self.generator, len(z))
        fake: Tensor = self.generator(z, labels, noise)
        techniques = self.settings.techniques
        if techniques.mask_quantile is None:
            return fake
        moved_z = z + techniques.mask_latent_std * self.draws.technique_normal(*z.shape)
        unseen = dataclasses.replace(self.generator.statistics, updates=False)
        with torch.no_grad(), self.generator.using_statistics(unseen):
            change = (fake - self.generator(moved_z, labels, noise)).abs()
            threshold = quantile(distributed.gathered(change), techniques.mask_quantile)
        added = techniques.mask_noise_std * self.draws.technique_normal(*fake.shape)
        return fake + (change >= threshold) * added

    @property
    def _dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.precision == "bfloat16" else self.discriminator.fcn.weight.dtype

    def sample(
        self,
        labels: Tensor,
        *,
        seed: int = 0,
        truncation: float = 1.0,
        centre: Literal["global", "class"] = "global",
        batch_size: int = 512,
    ) -> Tensor:
        """Generate motions (N, C, T, V) of labels (N,), by the average if there is one; see `model.sampling.sample`.

        No random state of the training is touched, and no other worker is waited for.
        """
        return sample(
            self.average or self.generator,
            labels.to(self.device),
            seed=seed,
            truncation=truncation,
            centre=centre,
            batch_size=batch_size,
        )

    def recalibrate(self, labels: Tensor) -> None:
        """Settle the BatchNorm of the generator that is sampled, on motions of these labels (N,), as training draws them.

        Training goes on as if nothing had been: it takes each batch's own statistics.
        """
        recalibrate(self.average or self.generator, labels.to(self.device))

    def state_dict(self) -> dict[str, Any]:
        """Return all that must survive a restart: weights, optimisers, random state, step."""
        networks = self.networks.items()
        return {
            "weights": {f"{net}.{name}": t for net, module in networks for name, t in module.state_dict().items()},
            "optimisers": {name: adam.state_dict() for name, adam in self.optimisers.items()},
            "random": self.draws.state_dict(),
            "step": self.step_count,
            "generator_metrics": self._generator_metrics,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state` was taken, with the learning rates of this GAN's own settings.

        Strict: raises RuntimeError where tensors do not fit.
        """
        for net, module in self.networks.items():
            own = {n: t for n, t in state["weights"].items() if n.startswith(f"{net}.")}
            module.load_state_dict({n.removeprefix(f"{net}."): t for n, t in own.items()})
        optimisers = copy.deepcopy(state["optimisers"])  # Adam keeps the tensors that it is given
        for name, adam in self.optimisers.items():
            # A schedule changes rates on the way: the groups that were saved hold those of the part before.
            adam.load_state_dict({**optimisers[name], "param_groups": adam.state_dict()["param_groups"]})
            # The moments lie in memory in their parameter's order, as a fused step reads them.
            for parameter, moments in adam.state.items():
                moments |= {n: torch.empty_like(parameter).copy_(moments[n]) for n in ("exp_avg", "exp_avg_sq")}
        self.draws.load_state_dict(state["random"])
        self.step_count = state["step"]
        self._generator_metrics = {name: t.to(self.device) for name, t in state["generator_metrics"].items()}
        self._captured = None  # a recording holds the optimisers' earlier tensors
