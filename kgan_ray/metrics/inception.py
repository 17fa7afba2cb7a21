"""`fid_inception`: the published protocol, an image network's view of a motion.

A motion (C, T, V) in [-1, 1] is taken for an image of three channels, resized to 299 x 299, and given to the FID
Inception-v3 (Heusel et al., 2017), whose own scaling 2x - 1, meant for images in [0, 1], comes on top. The network and its
resizing are torch-fidelity's, an optional dependency; its weights are 91 MB that are not ours to ship.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from kgan_ray.metrics.frechet import RunningGaussian, frechet_distance
from kgan_ray.settings import UserError

if TYPE_CHECKING:
    from kgan_ray.metrics.sides import Motions

FEATURES = 2048
SIZE = 299
WEIGHTS_VARIABLE = "KGAN_RAY_INCEPTION"
_FILE = "weights-inception-2015-12-05-6726825d.pth"

Network = Callable[[Tensor], Tensor]  # images (N, 3, 299, 299) in [-3, 1] -> (N, 2048)


def as_images(motions: Tensor) -> Tensor:
    """Resize to (N, 3, 299, 299): bilinear without aligned corners, then the doubled scaling 2x - 1.

    Motions in two coordinates get a third channel of zeros.
    """
    if motions.shape[1] == 2:
        motions = F.pad(motions, (0, 0, 0, 0, 0, 1))
    return 2 * F.interpolate(motions, size=(SIZE, SIZE), mode="bilinear", align_corners=False) - 1


@torch.no_grad()
def inception_distance(
    real: Tensor,
    generated: Tensor,
    device: torch.device | str = "cpu",
    network: Network | None = None,
    batch: int = 50,
) -> float:
    """Compute the Fréchet distance of Inception features of motions (N, C, T, V)."""
    network = network or load_network(device)
    sides = []
    for motions in (real, generated):
        running = RunningGaussian()
        for part in motions.split(batch):
            running.update(network(as_images(part.to(device))))
        sides.append(running.result())
    return frechet_distance(*sides)


def fid_inception(real: Motions, generated: Motions) -> dict[str, float]:
    return {"fid_inception": inception_distance(real.values, generated.values, generated.device)}


def load_network(device: torch.device | str) -> Network:
    """Load torch-fidelity's Inception-v3. Raises UserError, saying what to fetch, where it or its weights are missing."""
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except (ImportError, RuntimeError):  # RuntimeError: a torchvision built for another torch
        raise UserError(
            "fid_inception needs torch-fidelity and a torchvision that fits torch: "
            "pip install -c constraints.txt '.[inception]'"
        ) from None
    file = weights_file()
    check_weights(file)
    extractor = FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(file)
    ).to(device)
    return lambda images: inception_features(extractor, images)


def weights_file() -> Path:
    """Find the weights at $KGAN_RAY_INCEPTION, or in torch-fidelity's own place. Raises UserError where they are not."""
    named = os.environ.get(WEIGHTS_VARIABLE)
    file = Path(named) if named else Path(torch.hub.get_dir()) / "checkpoints" / _FILE
    if not file.exists():
        raise UserError(
            f"fid_inception: no Inception weights at {file}; download {_FILE} from torch-fidelity's releases on GitHub "
            f"and name it in ${WEIGHTS_VARIABLE}"
        )
    return file


def check_weights(file: Path) -> None:
    """Raise UserError unless the file holds tensors alone: torch-fidelity would unpickle whatever it holds, and run it."""
    try:
        torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:100]
        raise UserError(
            f"{file}: not a file of weights alone ({reason}); download {_FILE} from torch-fidelity's releases on GitHub"
        ) from None


def inception_features(extractor: torch.nn.Module, images: Tensor) -> Tensor:
    """Run the layers up to the average pooling, (N, 2048), without the network's own rounding and resizing of images."""
    x = images
    for name in _BEFORE_POOLING:
        x = getattr(extractor, name)(x)
    return F.adaptive_avg_pool2d(x, 1).flatten(1)


_BEFORE_POOLING = (
    "Conv2d_1a_3x3 Conv2d_2a_3x3 Conv2d_2b_3x3 MaxPool_1 Conv2d_3b_1x1 Conv2d_4a_3x3 MaxPool_2 Mixed_5b Mixed_5c Mixed_5d "
    "Mixed_6a Mixed_6b Mixed_6c Mixed_6d Mixed_6e Mixed_7a Mixed_7b Mixed_7c"
).split()
