"""The metrics by name. A name fixes a protocol: a changed protocol means a new name."""

from __future__ import annotations

from dataclasses import dataclass

from kgan_ray.settings import UserError
from kgan_ray.text import close_match


@dataclass(frozen=True)
class Metric:
    """What a name stands for."""

    protocol: str
    lower_is_better: bool


METRICS: dict[str, Metric] = {
    "fid": Metric("Fréchet distance of extractor features, generated against the training split", True),
    "fid_infinity": Metric("fid extrapolated to endless generated motions", True),
    "fid_per_class": Metric(
        "mean over classes of fid within a class with more motions than features; see fid/<class>", True
    ),
    "kid": Metric(
        "squared MMD with a cubic kernel on extractor features, unbiased; kid_std is its standard error", True
    ),
    "precision": Metric("share of generated motions inside a real motion's 5-neighbour ball", False),
    "recall": Metric("share of real motions inside a generated motion's 5-neighbour ball", False),
    "density": Metric("real balls around a generated motion, over 5", False),
    "coverage": Metric("share of real motions whose ball holds a generated motion", False),
    "accuracy": Metric("share of generated motions that the extractor gives their own class", False),
    "accuracy_per_class": Metric("mean over classes of accuracy within a class; see accuracy/<class>", False),
    "diversity": Metric("mean feature distance of 200 random pairs of generated motions", False),
    "multimodality": Metric("mean feature distance of 20 random pairs within a class, over classes", False),
    "mmd_avg": Metric("frame-wise MMD per class, largest of 14 kernel widths, unbiased, all motions", True),
    "mmd_seq": Metric("sequence-wise MMD per class, largest of 14 kernel widths, unbiased, all motions", True),
    "mmd_avg_published": Metric(
        "the public script's MMDa: first motion of a class, joints as samples, NaN dropped", True
    ),
    "mmd_seq_published": Metric(
        "the public script's MMDs: first motion of a class, joints as samples, NaN dropped", True
    ),
    "fid_inception": Metric(
        "Fréchet distance of Inception-v3 features of motions as images, published scaling", True
    ),
}
NEED_MOTIONS = frozenset({"mmd_avg", "mmd_seq", "mmd_avg_published", "mmd_seq_published", "fid_inception"})


# Whose values can be compared by their ratio: never 0 unless all is lost, never below.
ABOVE_ZERO = ("fid", "fid_inception", "diversity", "multimodality")


def check_metric_name(name: str, where: str) -> None:
    """Raise UserError, with the nearest name, unless `name` is a metric. `where` says who asked."""
    if name not in METRICS:
        raise UserError(
            f"{where}: unknown metric {name!r}.{close_match(name, METRICS)} Known: {', '.join(METRICS)}"
        )


def lower_is_better(name: str) -> bool:
    return METRICS[name].lower_is_better if name in METRICS else True
