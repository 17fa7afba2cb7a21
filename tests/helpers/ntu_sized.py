"""How long and how much memory the suite takes at the size of NTU RGB+D 60: 40 000 real and 60 000 generated motions.

python tests/helpers/ntu_sized.py [--scale 0.1] [--threads 2]

Motions are random walks, features (128) some of their coordinates; `fid_inception` is left out. Last line: the totals.
"""

import argparse
import time
from pathlib import Path

import torch

from kgan_ray.metrics.names import METRICS
from kgan_ray.metrics.sides import Side
from kgan_ray.metrics.suite import Evaluator
from kgan_ray.skeleton import NTU25, MotionSpec

NUM_CLASSES, FRAMES, FEATURES = 60, 64, 128


class Synthetic:
    """In place of a trained extractor."""

    def features(self, motions):
        return motions[:, :, ::16].flatten(1)[:, :FEATURES].contiguous()

    def predict(self, features):
        return (features[:, 0] > 0).long()


class NTUSized(Evaluator):
    """An evaluator of the suite without a dataset."""

    def __init__(self, num_real):
        names = tuple(f"class {number}" for number in range(NUM_CLASSES))
        self.spec = MotionSpec(
            layout=NTU25, coordinates=3, frames=FRAMES, class_names=names, value_range=(-1.0, 1.0)
        )
        self.extractor, self.device = Synthetic(), torch.device("cpu")
        self._noted, self.progress = set(), print
        self.extractor.class_names = names
        self.real, self.test = (
            Side(labels, self.extractor, motions=motions)
            for motions, labels in (walks(num_real, seed=0), walks(num_real // 4, seed=2))
        )


def walks(count, seed):
    """Motions (count, 3, T, V) about a place of their class, and labels."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % NUM_CLASSES
    motions = torch.empty(count, 3, FRAMES, NTU25.num_joints)
    for part, own in zip(motions.split(1000), labels.split(1000), strict=True):
        torch.cumsum(torch.randn(part.shape, generator=random) * 0.02, dim=2, out=part)
        part += (own / NUM_CLASSES - 0.5)[:, None, None, None]
    return motions, labels


def peak_gib():
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 2**20
    raise RuntimeError("no VmHWM in /proc/self/status")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    evaluator = NTUSized(int(40_000 * options.scale))
    motions, labels = walks(int(60_000 * options.scale), seed=1)
    evaluator.score(motions, labels, ())
    generated = evaluator.side(motions, labels)
    total = used = 0.0
    for name in METRICS:
        if name == "fid_inception":
            continue
        started, busy = time.perf_counter(), time.process_time()
        value = evaluator.compare(evaluator.real, generated, (name,))[name]
        wall, processor = time.perf_counter() - started, time.process_time() - busy
        total, used = total + wall, used + processor
        print(f"{name} {value:.5g}: {wall:.1f} s, {processor:.1f} s of processor", flush=True)
    print(f"total {total:.1f} s, {used:.1f} s of processor, peak {peak_gib():.2f} GiB")


if __name__ == "__main__":
    main()
