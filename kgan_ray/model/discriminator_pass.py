"""The discriminator's forward pass and all of its gradients, written out.

Up to its head the discriminator is linear but for LeakyReLUs, whose slopes (1 or 0.2) are constants almost everywhere.
So the slope of the score along the motion is one pass through the transposed blocks, and the gradient of the
slope's length (the gradient penalty) is one more pass forward through the blocks, with the same slopes and no biases:

    forward     x -> J x (joints) -> conv -> + R x -> LeakyReLU -> ...            all motions
    transposed  g -> slopes * g -> conv^T -> J^T, + R^T -> ...                    all motions, g at the score downward
    tangent     h -> J h -> conv -> + R h -> slopes * h -> ...                    interpolates, h at the motion upward

Each weight's gradient is then a product of what entered the weight (x, or h for the interpolates) and what came back to
its output (g): one product for real motions, fakes and interpolates together. Nothing is differentiated twice, and
nothing is recorded: training needs 10 passes over a batch where plain double differentiation needs about 14.
Measured on a core of an AMD EPYC server at NTU-60 shapes, batch 32, both ways in turns (`benchmark training`): the
discriminator's step is 1.74 times as fast as by autograd's double backward, at the published width and at a quarter of it.

Shapes: N motions, C channels, T frames, V joints, K partitions. Inside, (N, V, T, C) in memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from kgan_ray.model.blocks import LEAK, NOISY_BLOCKS
from kgan_ray.model.discriminator import Discriminator, DiscriminatorNoise, add_label_terms_
from kgan_ray.model.discriminator_weights import BlockGeometry, DiscriminatorWeights
from kgan_ray.model.layers import launches_matter

NARROW = 8  # channels: so few fill half of a CPU's vector, and what has them as its columns is slow


@dataclass
class BlockTrace:
    """What one block took in and what came back, for the gradients of its weights."""

    x: Tensor  # (N, V, T, C_in)
    gathered: Tensor  # (N, V' * K, T, C_in)
    mixed: Tensor | None = None  # after the 1x1 convolution, where it is not merged
    residual: Tensor | None = None  # x at the joints and frames that stay, (N, V', T', C_in)
    from_gathered: Tensor | None = None  # g at `gathered`
    from_mixed: Tensor | None = None  # g at `mixed`
    from_output: Tensor | None = None  # g before the LeakyReLU, (N, V', T', C_out)

    def rows(self, rows: slice) -> BlockTrace:
        """Return some motions' part of what went in."""
        mixed, residual = (None if t is None else t[rows] for t in (self.mixed, self.residual))
        return BlockTrace(self.x[rows], self.gathered[rows], mixed, residual)


@dataclass
class DiscriminatorPass:
    """One pass of motions through the discriminator's blocks, with weights that stay fixed meanwhile.

    `weights` come from `Discriminator.weights` and are used detached. Everything but the head is computed in
    `dtype`; what comes in and goes out has the weights' own.
    """

    discriminator: Discriminator
    weights: DiscriminatorWeights
    dtype: torch.dtype = torch.float32
    blocks: list[BlockTrace] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._tensors = [
            [None if t is None else _in_memory_order(t.detach().to(self.dtype)) for t in block.parts()]
            for block in self.weights.blocks
        ]
        self._geometry: list[BlockGeometry] = list(self.discriminator.geometry)
        self._head_dtype = self.weights.blocks[0].bias.dtype
        self._outputs: list[Tensor] = []  # of the LeakyReLUs: their signs say which slope each had
        self._pool_index: Tensor | None = None

    def forward(self, motions: Tensor, label_terms: Tensor, noise: DiscriminatorNoise) -> Tensor:
        """Return pooled features (N, latent_dim) of `Discriminator.judged` motions (N, C, T, V), with `LabelWeights.terms`."""
        x = motions.detach().permute(0, 3, 2, 1).to(self.dtype).contiguous()
        for i in range(len(self._geometry)):
            y, trace = self._linear(i, x, with_bias=True)
            if i == 0:
                add_label_terms_(y, label_terms.detach().to(self.dtype))
            if i in NOISY_BLOCKS and (added := noise.blocks[NOISY_BLOCKS.index(i)]) is not None:
                y += added
            x = F.leaky_relu_(y, LEAK)
            self.blocks.append(trace)
            self._outputs.append(x)
        return self._pool(x).to(self._head_dtype)

    def transposed(self, features: Tensor, *, slopes_of: slice = slice(None), keep: bool = True) -> Tensor:
        """Send a gradient at the features (N, latent_dim) back to motions (N, C, T, V): all, or those of a slice.

        With `keep` false nothing is remembered for `gradients`.
        """
        g = self._unpool(features.to(self.dtype))
        for i in range(len(self._geometry) - 1, -1, -1):
            joints, point, time, _, residual = self._tensors[i]
            geometry, trace = self._geometry[i], self.blocks[i]
            k = geometry.num_partitions
            at_output = torch.ops.aten.leaky_relu_backward(g, self._outputs[i], LEAK, True)
            if trace.mixed is None:
                at_mixed, at_gathered = (
                    None,
                    _input_gradient(at_output, trace.gathered, time, (k, geometry.stride)),
                )
            else:
                at_mixed = _input_gradient(at_output, trace.mixed, time, (1, geometry.stride))
                at_gathered = _input_gradient(at_mixed, trace.gathered, point, (k, 1))
            if keep:
                trace.from_output, trace.from_mixed, trace.from_gathered = at_output, at_mixed, at_gathered
            back = at_gathered[slopes_of] if i == 0 else at_gathered
            g = torch.matmul(joints.T, back.flatten(2)).view(len(back), -1, *back.shape[2:])
            if i > 0:
                _add_residual_gradient_(g, at_output, residual, geometry)
        return g.to(self._head_dtype).permute(0, 3, 2, 1)

    def tangent(self, direction: Tensor, rows: slice) -> Tensor:
        """Send a change of some motions (N', C, T, V) forward to their features (N', latent_dim), slopes fixed.

        It takes the place of those motions in what `gradients` multiplies.
        """
        h = self.blocks[0].x[rows]
        h.copy_(direction.permute(0, 3, 2, 1))
        for i, trace in enumerate(self.blocks):
            y, _ = self._linear(i, h, with_bias=False, into=trace.rows(rows))
            h = self._outputs[i][rows]  # its signs say what the slopes were; then it is the next block's input
            torch.ops.aten.leaky_relu_backward.grad_input(y, h, LEAK, True, grad_input=h)
        return self._pool(h, rows).to(self._head_dtype)

    def gradients(self, biased: slice) -> tuple[list[Tensor], Tensor]:
        """Return the gradients of the tensors of `weights`, in order, and of the label terms; `biased`: real and fake motions."""
        gradients: list[list[Tensor]] = []
        by_motion: list[Tensor] = []  # gradients of the joints' maps, (N, V' * K * V)
        for i, trace in enumerate(self.blocks):
            _, point, time, _, residual = self._tensors[i]
            g, at_mixed, at_gathered = trace.from_output, trace.from_mixed, trace.from_gathered
            assert g is not None
            assert at_gathered is not None
            geometry = self._geometry[i]
            k = geometry.num_partitions
            by_motion.append(torch.bmm(at_gathered.flatten(2), trace.x.flatten(2).transpose(1, 2)).flatten(1))
            if trace.mixed is None:
                own = [_weight_gradient(g, trace.gathered, time, (k, geometry.stride))]
            else:
                own = [
                    _weight_gradient(at_mixed, trace.gathered, point, (k, 1)),
                    _weight_gradient(g, trace.mixed, time, (1, geometry.stride)),
                ]
            own.append(g[biased].sum(dim=(0, 1, 2)))
            if residual is not None:
                assert trace.residual is not None
                x, y = trace.residual.flatten(0, 2), g.flatten(0, 2)
                own.append((x.T @ y).T if _is_narrow(residual) else y.T @ x)
            gradients.append(own)
        joints = torch.cat(by_motion, dim=1).sum(dim=0).split([part.shape[1] for part in by_motion])
        for (gathering, *_), own, flat in zip(self._tensors, gradients, joints, strict=True):
            own.insert(0, flat.view_as(gathering))
        first = self.blocks[0].from_output
        assert first is not None
        total = first.sum(dim=2)  # (N, V', C)
        terms = torch.stack([total - first[:, :, 0], total, total - first[:, :, -1]], dim=1)
        return [t.to(self._head_dtype) for own in gradients for t in own], terms.to(self._head_dtype)

    def _linear(
        self, index: int, x: Tensor, *, with_bias: bool, into: BlockTrace | None = None
    ) -> tuple[Tensor, BlockTrace]:
        """Compute block `index` up to its LeakyReLU, without the label's share, and keep in `into` what it went through."""
        joints, point, time, bias, residual = self._tensors[index]
        geometry = self._geometry[index]
        n, v, t, c = x.shape
        if into is None:
            into = BlockTrace(x, x.new_empty(n, len(joints), t, c))
        torch.bmm(joints.expand(n, -1, -1), x.view(n, v, t * c), out=into.gathered.view(n, -1, t * c))
        mixed, k = into.gathered, geometry.num_partitions
        if point is not None:
            mixed, k = _convolve(mixed, point, None, (k, 1)), 1
            into.mixed = mixed if into.mixed is None else into.mixed.copy_(mixed)
        y = _convolve(mixed, time, bias if with_bias else None, (k, geometry.stride))
        if index == 0:
            return y, into
        r = x[:, :, :: geometry.stride]
        if geometry.drops_joints:
            r = torch.index_select(r, 1, geometry.keep, out=into.residual)
        if residual is None:
            y += r
            return y, into
        if not geometry.drops_joints and geometry.stride > 1:
            r = r.contiguous() if into.residual is None else into.residual.copy_(r)
        into.residual = r
        y.view(-1, y.shape[3]).addmm_(r.view(-1, c), residual.T)
        return y, into

    def _pool(self, x: Tensor, rows: slice = slice(None)) -> Tensor:
        flat = x.flatten(1, 2)  # (N, V * T, C)
        if self.discriminator.techniques.pooling == "avg":
            return flat.mean(dim=1)
        if self._pool_index is None:
            highest, self._pool_index = flat.max(dim=1, keepdim=True)
            return highest.squeeze(1)
        return flat.gather(1, self._pool_index[rows]).squeeze(1)

    def _unpool(self, g: Tensor) -> Tensor:
        n, v, t, c = self._outputs[-1].shape
        if self._pool_index is None:
            return g[:, None, None].expand(n, v, t, c) / (t * v)
        return g.new_zeros(n, v * t, c).scatter_(1, self._pool_index, g[:, None]).view(n, v, t, c)


def _add_residual_gradient_(
    g: Tensor, at_output: Tensor, residual: Tensor | None, geometry: BlockGeometry
) -> None:
    if residual is not None and geometry.stride == 1 and not geometry.drops_joints:
        if _is_narrow(residual):
            g += _convolve_with_turned_taps(at_output, residual[:, :, None, None])
            return
        g.view(-1, g.shape[3]).addmm_(at_output.flatten(0, 2), residual)
        return
    back = at_output if residual is None else at_output @ residual
    strided = g[:, :, :: geometry.stride]
    if geometry.drops_joints:
        strided.index_add_(1, geometry.keep, back)
    else:
        strided += back


def _is_narrow(weight: Tensor) -> bool:
    """Say whether what goes in, weight being (C_out, C_in, ...), is too narrow for a CPU's matrix products."""
    return weight.shape[1] <= NARROW and not launches_matter(weight)


def _in_memory_order(weight: Tensor) -> Tensor:
    """Return a convolution's weights in the order that it wants them, once and for all its calls."""
    return weight.contiguous(memory_format=torch.channels_last) if weight.dim() == 4 else weight


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, int]) -> Tensor:
    """Convolve over (V, T) x (N, V, T, C), with padding in time."""
    padding = (0, weight.shape[3] // 2)
    y = F.conv2d(x.permute(0, 3, 1, 2), weight, bias, stride=stride, padding=padding)
    return y.permute(0, 2, 3, 1).contiguous()  # no copy: it was computed so


def _input_gradient(g: Tensor, x: Tensor, weight: Tensor, stride: tuple[int, int]) -> Tensor:
    """Convolve transposed, from its output (N, V', T', C_out) to its input (N, V, T, C)."""
    if _is_narrow(weight) and stride[1] == 1:
        return _convolve_with_turned_taps(g, weight)
    return _convolution_backward(g, x, weight, stride, [True, False, False])[0].permute(0, 2, 3, 1).contiguous()


def _convolve_with_turned_taps(g: Tensor, weight: Tensor) -> Tensor:
    """Do the same with a convolution forward, to the channels of all partitions, which a copy then lays side by side."""
    (n, v, t, _), (_, c, k, _) = g.shape, weight.shape
    turned = weight.flip(3).permute(2, 1, 0, 3).flatten(0, 1).unsqueeze(2)  # (K * C, C_out, 1, taps)
    y = _convolve(g, _in_memory_order(turned), None, (1, 1))
    return y.view(n, v, t, k, c).transpose(2, 3).reshape(n, v * k, t, c)


def _weight_gradient(g: Tensor, x: Tensor, weight: Tensor, stride: tuple[int, int]) -> Tensor:
    return _convolution_backward(g, x, weight, stride, [False, True, False])[1]


def _convolution_backward(
    g: Tensor, x: Tensor, weight: Tensor, stride: tuple[int, int], wanted: list[bool]
) -> list[Tensor]:
    g, x, padding = g.permute(0, 3, 1, 2), x.permute(0, 3, 1, 2), [0, weight.shape[3] // 2]
    outcome: list[Tensor] = torch.ops.aten.convolution_backward(
        g, x, weight, None, list(stride), padding, [1, 1], False, [0, 0], 1, wanted
    )
    return outcome
