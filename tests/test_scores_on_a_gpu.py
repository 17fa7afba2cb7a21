"""Scores on a pretended GPU: no step of theirs mixes devices, and each has the value that it has on a CPU."""

import pytest
import torch

from helpers.pretended_gpu import PRETENDED, ComputesOnHost, DevicesMixedError
from kgan_ray.data.dataset import Dataset
from kgan_ray.metrics.names import METRICS
from kgan_ray.metrics.suite import Evaluator

# The others need another network, or more motions.
NAMES = tuple(name for name in METRICS if name not in ("fid_inception", "fid_infinity", "fid_per_class"))


def test_the_pretended_gpu_computes_and_refuses_the_hosts_tensors():
    with ComputesOnHost():
        there = torch.arange(3.0).to(PRETENDED)
        there[1] = 5
        assert (there.device, (2 * there).sum().item()) == (PRETENDED, 14.0)
        assert there.cpu().numpy().tolist() == [0.0, 5.0, 2.0]
        with pytest.raises(DevicesMixedError, match="1 tensors on the GPU meet 1 on the host"):
            there + torch.ones(3)
        with pytest.raises(DevicesMixedError, match="no numpy"):
            there.numpy()


@pytest.mark.slow
@pytest.mark.parametrize("held_in", ["memory", "disk"])
def test_floors_and_scores_on_a_gpu_are_those_on_a_cpu(tiny, held_in):
    data = tiny.data.model_copy(update={"held_in": held_in})
    view = Dataset.open(tiny.data.path).view(data)
    evaluation = tiny.evaluation.model_copy(update={"metrics": NAMES})
    motions = 2 * torch.rand(60, *view.spec.shape, generator=torch.Generator().manual_seed(0)) - 1
    labels = torch.arange(60) % view.spec.num_classes

    def measured(device):
        evaluator = Evaluator(view, evaluation, device, progress=lambda line: None)
        return [evaluator.halves(NAMES), evaluator.floor(NAMES), evaluator.score(motions, labels, NAMES)]

    on_cpu = measured("cpu")
    with ComputesOnHost():
        on_gpu = measured(PRETENDED.type)
    for there, here in zip(on_gpu, on_cpu, strict=True):
        assert there == pytest.approx(here, rel=1e-9, nan_ok=True)
