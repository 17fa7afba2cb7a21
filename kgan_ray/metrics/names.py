"""The metrics by name, and the extractor's. A name fixes a protocol: a changed protocol means a new name.

To add a metric, write its function in the file of its family and one entry in METRICS, and describe it in docs/metrics.md.
"""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from kgan_ray.settings import EvaluationSettings, UserError
from kgan_ray.text import close_match

if TYPE_CHECKING:
    from kgan_ray.metrics.sides import Side

# Of the way from chance to all right, that an extractor must have gone to be of use.
LEAST_SIGHT = 0.1


@dataclass(frozen=True)
class Metric:
    """The function that computes a metric, and what is true of its values.

    The function is named, "module:function", so that names can be checked without waiting for PyTorch. It takes the real
    and the generated side, as Features or, if it `needs_motions`, as Motions, and returns its value by the metric's name;
    values of single classes, by <name>/<class>, an error or what to expect of a perfect generator may stand beside it. It
    raises ValueError for too few motions.
    """

    function: str
    description: str
    lower_is_better: bool
    needs_motions: bool = False
    is_above_zero: bool = False  # always: a ratio of two values means something
    # Of the generated motions as many of every class; the others take them in the training split's proportions.
    takes_even_classes: bool = False
    needs_test: bool = False  # as a third side; it has its own floor beside it
    is_objective: bool = True  # whether less, or more, of it is better

    @property
    def mode(self) -> Literal["min", "max"]:
        return "min" if self.lower_is_better else "max"

    def compute(self, real: Side, generated: Side, test: Side | None = None) -> dict[str, float]:
        function = pkgutil.resolve_name(self.function)
        sides = [side for side in (real, generated, test) if side]
        scores: dict[str, float] = function(
            *(side.motions if self.needs_motions else side.features for side in sides)
        )
        return scores


METRICS: dict[str, Metric] = {
    "fid": Metric(
        "kgan_ray.metrics.frechet:fid",
        "The Fréchet distance of extractor features, generated motions against the training split.",
        lower_is_better=True,
        is_above_zero=True,
    ),
    "fid_test": Metric(
        "kgan_ray.metrics.frechet:fid_test",
        "`fid` against the test split; fid_train and fid_train_test beside it, all of equally many motions a side.",
        lower_is_better=True,
        is_above_zero=True,
        needs_test=True,
    ),
    "fid_infinity": Metric(
        "kgan_ray.metrics.frechet:fid_infinity",
        "`fid`, extrapolated to endless generated motions.",
        lower_is_better=True,
    ),
    "fid_per_class": Metric(
        "kgan_ray.metrics.frechet:fid_per_class",
        "The mean of `fid` within each class that has more motions than features; fid/<class> and its bias beside it.",
        lower_is_better=True,
        is_above_zero=True,
        takes_even_classes=True,
    ),
    "kid": Metric(
        "kgan_ray.metrics.kernel:kid",
        "The unbiased squared MMD of features with a cubic kernel; kid_std is its standard error.",
        lower_is_better=True,
    ),
    "precision": Metric(
        "kgan_ray.metrics.manifold:precision",
        "The share of generated motions that lie in a real motion's 5-neighbour ball.",
        lower_is_better=False,
    ),
    "recall": Metric(
        "kgan_ray.metrics.manifold:recall",
        "The share of real motions that lie in a generated motion's 5-neighbour ball.",
        lower_is_better=False,
    ),
    "density": Metric(
        "kgan_ray.metrics.manifold:density",
        "The mean number of real 5-neighbour balls around a generated motion, over 5.",
        lower_is_better=False,
    ),
    "coverage": Metric(
        "kgan_ray.metrics.manifold:coverage",
        "The share of real motions whose 5-neighbour ball holds a generated motion.",
        lower_is_better=False,
    ),
    "accuracy": Metric(
        "kgan_ray.metrics.one_sided:accuracy",
        "The share of generated motions that the extractor gives the class they were asked for.",
        lower_is_better=False,
        takes_even_classes=True,
    ),
    "accuracy_per_class": Metric(
        "kgan_ray.metrics.one_sided:accuracy_per_class",
        "The mean over classes of `accuracy` within a class; accuracy/<class> beside it.",
        lower_is_better=False,
        takes_even_classes=True,
    ),
    "nearest_ratio": Metric(
        "kgan_ray.metrics.manifold:nearest_ratio",
        "The mean distance to the nearest training motion, over that between training motions: 0 for copies.",
        lower_is_better=False,
        is_above_zero=True,
        is_objective=False,
    ),
    "diversity": Metric(
        "kgan_ray.metrics.one_sided:diversity",
        "The mean feature distance of 200 random pairs of generated motions.",
        lower_is_better=False,
        is_above_zero=True,
        is_objective=False,
    ),
    "multimodality": Metric(
        "kgan_ray.metrics.one_sided:multimodality",
        "The mean feature distance of 20 random pairs of generated motions of a class, averaged over classes.",
        lower_is_better=False,
        is_above_zero=True,
        is_objective=False,
        takes_even_classes=True,
    ),
    "jerk_ratio": Metric(
        "kgan_ray.metrics.one_sided:jerk_ratio",
        "The mean jerk of generated motions over that of recorded ones: above 1 they tremble, below they glide.",
        lower_is_better=True,
        needs_motions=True,
        is_above_zero=True,
        is_objective=False,
    ),
    "deviation_ratio": Metric(
        "kgan_ray.metrics.one_sided:deviation_ratio",
        "The deviation of a class's generated motions over that of its recorded ones: 0 where all are the same.",
        lower_is_better=False,
        needs_motions=True,
        is_above_zero=True,
        is_objective=False,
        takes_even_classes=True,
    ),
    "mmd_avg": Metric(
        "kgan_ray.metrics.mmd:mmd_avg",
        "The frame-wise MMD of all motions of a class, the largest over 14 kernel widths, averaged over classes.",
        lower_is_better=True,
        needs_motions=True,
        takes_even_classes=True,
    ),
    "mmd_seq": Metric(
        "kgan_ray.metrics.mmd:mmd_seq",
        "The MMD of whole sequences of a class, the largest over 14 kernel widths, averaged over classes.",
        lower_is_better=True,
        needs_motions=True,
        takes_even_classes=True,
    ),
    "mmd_avg_published": Metric(
        "kgan_ray.metrics.mmd:mmd_avg_published",
        "The public script's MMDa: the first motion of each class, its joints as samples, NaN dropped.",
        lower_is_better=True,
        needs_motions=True,
        takes_even_classes=True,
    ),
    "mmd_seq_published": Metric(
        "kgan_ray.metrics.mmd:mmd_seq_published",
        "The public script's MMDs: the first motion of each class, its joints as samples, NaN dropped.",
        lower_is_better=True,
        needs_motions=True,
        takes_even_classes=True,
    ),
    "fid_inception": Metric(
        "kgan_ray.metrics.inception:fid_inception",
        "The Fréchet distance of Inception-v3 features of motions as images, with the published scaling.",
        lower_is_better=True,
        needs_motions=True,
        is_above_zero=True,
        takes_even_classes=True,
    ),
}


@dataclass(frozen=True)
class Recognition:
    """Which extractor scores come from, and how well it recognises motions: what stands beside every one of them."""

    hash: str  # of the extractor
    accuracy: float  # on motions that it was not trained on
    tested_on: str  # which those are
    chance: float  # the accuracy of naming the most frequent class whatever is shown

    @property
    def warning(self) -> str:
        """Flag scores of an extractor that hardly tells one class from another; empty where it does."""
        if self.accuracy >= self.chance + LEAST_SIGHT * (1 - self.chance):
            return ""
        return f"BLIND: chance is {self.chance:.1%}; scores of such an extractor say next to nothing"

    def line(self) -> str:
        """Describe the extractor in one line, with the warning that it deserves."""
        described = f"extractor {self.hash}, right for {self.accuracy:.1%} of {self.tested_on}"
        return f"{described}; {self.warning}" if self.warning else described

    def brief(self) -> str:
        """Say in a few words how good it is, to stand beside a score."""
        return f"{'BLIND ' if self.warning else ''}extractor {self.accuracy:.0%} right"


def check_metric_name(name: str, where: str) -> None:
    """Raise UserError, with the nearest name, unless `name` is a metric. `where` says who asked."""
    if name not in METRICS:
        raise UserError(
            f"{where}: unknown metric {name!r}.{close_match(name, METRICS)} Known: {', '.join(METRICS)}"
        )


def check_objective(name: str, where: str) -> None:
    """Raise UserError unless `name` is a metric by which runs can be ranked. `where` says who asked."""
    check_metric_name(name, where)
    if not METRICS[name].is_objective:
        raise UserError(
            f"{where}: {name} ranks nothing: noise is diverse too, and far from every training motion. "
            "Read it beside the floor of real motions"
        )


def lower_is_better(value: str) -> bool:
    """Say which way a measured value is better: a metric, a class's value such as accuracy/waving, or an error (lower)."""
    metric = METRICS.get(value.partition("/")[0])
    return metric is None or metric.lower_is_better


def best_is_lowest(evaluation: EvaluationSettings) -> bool:
    """Say which way a run's first metric ranks its checkpoints: as `evaluation.mode` says, or the metric's own way."""
    return (evaluation.mode or METRICS[evaluation.metrics[0]].mode) == "min"
