"""The classifier behind `fid` and `accuracy`: a compact spatial-temporal graph network (after ST-GCN, Yan et al., 2018).

Shapes: N motions, C coordinates, T frames, V joints, D = 128 features.

It sees a motion as recognition networks do (two-stream, Shi et al., 2019): joints relative to the root of their frame,
bones, and what moved between frames. Graph convolutions over neighbouring joints come first, while frames are still
apart, then convolutions over time on all joints together; that order is several times cheaper on a CPU than
alternating the two, and as accurate on small data sets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kgan_ray.skeleton import MotionSpec, SkeletonGraph, SkeletonLayout

FEATURES = 128
_GRAPH_CHANNELS = 24
_FRAMES_AT_ONCE = 2  # frames that the graph convolutions see together, and the first stride over time


def parents(layout: SkeletonLayout) -> list[int]:
    """Return each joint's neighbour on the way to the root; the root is its own."""
    parent = {layout.root: layout.root}
    while len(parent) < layout.num_joints:
        for a, b in layout.bones:
            for near, far in ((a, b), (b, a)):
                if near in parent and far not in parent:
                    parent[far] = near
    return [parent[joint] for joint in range(layout.num_joints)]


class GraphConvolution(nn.Module):
    """A graph convolution y_w = sum over partitions k and joints v of A_kvw W_k x_v, whose adjacency A learns too."""

    def __init__(self, layout: SkeletonLayout, inputs: int, outputs: int) -> None:
        super().__init__()
        adjacency = torch.from_numpy(SkeletonGraph(layout).levels[0].adjacency)
        self.adjacency = nn.Parameter(adjacency.clone())  # (3, V, V)
        self.weight = nn.Parameter(torch.randn(len(adjacency), inputs, outputs) / inputs**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Map (rows, V * inputs) to (rows, V * outputs) with one matrix product."""
        matrix = torch.einsum("kvw,kio->viwo", self.adjacency, self.weight)
        return x @ matrix.flatten(2).flatten(0, 1)


class TemporalBlock(nn.Module):
    """Convolution over five frames with a residual."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(channels, channels, 5, stride, 2, bias=False)
        self.norm = nn.BatchNorm1d(channels)
        self.shortcut = nn.Conv1d(channels, channels, 1, stride) if stride > 1 else nn.Identity()
        self.dropout = nn.Dropout(0.2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = F.relu(self.dropout(self.norm(self.convolution(x))) + self.shortcut(x))
        return out


class Classifier(nn.Module):
    """A network that maps motions (N, C, T, V) in [-1, 1] to features (N, D) and class scores (N, num_classes)."""

    parents: Tensor
    scale: Tensor

    def __init__(self, spec: MotionSpec) -> None:
        super().__init__()
        layout, coordinates = spec.layout, spec.coordinates
        self.root = layout.root
        self.register_buffer("parents", torch.tensor(parents(layout)))
        self.register_buffer("scale", torch.ones(()))  # of the training motions about their root
        streams = 3 * coordinates
        # A large eps: real bones hardly change, and generated ones that do must not be blown up a hundredfold.
        self.input_norm = nn.BatchNorm1d(streams * layout.num_joints, eps=0.1)
        self.graph_1 = GraphConvolution(layout, streams * _FRAMES_AT_ONCE, _GRAPH_CHANNELS)
        self.graph_norm_1 = nn.BatchNorm1d(_GRAPH_CHANNELS)
        self.graph_2 = GraphConvolution(layout, _GRAPH_CHANNELS, _GRAPH_CHANNELS)
        self.graph_norm_2 = nn.BatchNorm1d(_GRAPH_CHANNELS)
        self.gather = nn.Linear(_GRAPH_CHANNELS * layout.num_joints, FEATURES, bias=False)
        self.gather_norm = nn.BatchNorm1d(FEATURES)
        self.temporal = nn.Sequential(*(TemporalBlock(FEATURES, stride) for stride in (1, 2, 2)))
        self.dropout = nn.Dropout(0.4)
        self.head = nn.Linear(FEATURES, spec.num_classes)

    def streams(self, motions: Tensor) -> Tensor:
        """Stack joints about the root, bones and movements, (N, 3 C, T, V)."""
        joints = motions - motions[..., self.root : self.root + 1]
        bones = motions - motions[..., self.parents]
        moved = F.pad(motions.diff(dim=2), (0, 0, 1, 0)) * 5
        return torch.cat([joints, bones, moved], dim=1) / self.scale

    def features(self, motions: Tensor) -> Tensor:
        """Compute features (N, D) of motions."""
        x = self.streams(motions)
        n, c, t, v = x.shape
        x = self.input_norm(x.permute(0, 1, 3, 2).reshape(n, c * v, t)).view(n, c, v, t // _FRAMES_AT_ONCE, -1)
        rows = x.permute(0, 3, 2, 1, 4).reshape(-1, v * c * _FRAMES_AT_ONCE)  # (N T/2, V * channels)
        for graph, norm in ((self.graph_1, self.graph_norm_1), (self.graph_2, self.graph_norm_2)):
            per_joint = norm(graph(rows).view(-1, _GRAPH_CHANNELS))
            rows = F.relu(per_joint).view(len(rows), -1)
        frames = F.relu(self.gather_norm(self.gather(rows))).view(n, -1, FEATURES)
        features: Tensor = self.temporal(frames.transpose(1, 2)).mean(dim=2)
        return features

    def forward(self, motions: Tensor) -> Tensor:
        return self.classify(self.features(motions))

    def classify(self, features: Tensor) -> Tensor:
        """Compute the class scores (N, num_classes) of features."""
        scores: Tensor = self.head(self.dropout(features))
        return scores


def weights_hash(state: Mapping[str, Tensor]) -> str:
    """Return 16 hexadecimal digits that name an extractor: a hash of its weights' bytes, every last bit included."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
