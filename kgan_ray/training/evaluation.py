"""Evaluation by all workers of a run: each generates its share of the motions and extracts their features.

Rank 0 alone knows the real motions and computes the scores, from the features of all. The scores are those of one worker, up to
the rounding of features: every motion is drawn from the same random numbers.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from kgan_ray.metrics.names import METRICS
from kgan_ray.metrics.sides import Side, check_finite
from kgan_ray.metrics.suite import Evaluator
from kgan_ray.model.sampling import sample, share_of
from kgan_ray.training import distributed
from kgan_ray.training.gan import GAN


class SharedEvaluation:
    """The evaluations of a run. All ranks make one, at the same point, and call `evaluate` at the same steps."""

    def __init__(self, gan: GAN, evaluator: Evaluator | None) -> None:
        """Bring `evaluator` on rank 0, None elsewhere. Its extractor and its labels go to all ranks."""
        self.gan, self.evaluator = gan, evaluator
        measure = None
        if evaluator:
            extractor = evaluator.extractor
            measure = (
                replace(extractor, classifier=copy.deepcopy(extractor.classifier).cpu()),
                evaluator.labels().cpu(),
            )
        measure = distributed.from_rank_zero(measure)
        assert measure is not None, "rank 0 must bring an evaluator"
        self.extractor, self.labels = measure
        self.extractor.classifier.to(gan.device)

    def evaluate(self, metrics: Sequence[str]) -> dict[str, float]:
        """Measure the generator: on rank 0 return the scores, elsewhere nothing. All ranks take part.

        Raises DivergedError, on all ranks alike, where motions are not finite.
        """
        own = self._own_motions()
        check_finite(own, distributed.sum_over_workers)
        workers = distributed.world_size()
        counts = [len(share_of(self.labels, (rank, workers))) for rank in range(workers)]
        needs_motions = any(METRICS[name].needs_motions for name in metrics)
        motions = distributed.gathered_at_zero(own, counts) if needs_motions else None
        features = distributed.gathered_at_zero(self.extractor.features(own), counts)
        if self.evaluator is None:
            return {}
        assert features is not None
        labels = self.labels.to(features.device)
        generated = Side(labels, self.extractor, motions=motions, features=features)
        return self.evaluator.measure(generated, metrics)

    def _own_motions(self) -> Tensor:
        evaluation = self.gan.settings.evaluation
        return sample(
            self.gan.average or self.gan.generator,
            self.labels.to(self.gan.device),
            seed=evaluation.seed,
            truncation=evaluation.truncation,
            share=(distributed.rank(), distributed.world_size()),
        )
