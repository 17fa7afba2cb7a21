"""Evaluations as `python -m kgan_ray.evaluate` and Python users start them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kgan_ray.data.classes import other_classes
from kgan_ray.data.dataset import Dataset
from kgan_ray.data.motions_file import read_motions
from kgan_ray.data.view import DataView
from kgan_ray.metrics.evaluation import About, Evaluation, read_scores
from kgan_ray.metrics.sides import DivergedError
from kgan_ray.metrics.suite import Evaluator, Generates
from kgan_ray.settings import Settings, UserError
from kgan_ray.skeleton import MotionSpec

MOST_OTHER_CLASSES = 0.05  # of a file's motions, before a note says so
Draw = Callable[[int, tuple[str, ...]], dict[str, float]]  # (seed, metrics) -> scores


def evaluate_generator(
    generator: Generates,
    settings: Settings,
    *,
    source: str = "generator",
    repeats: int = 1,
    floors: bool = True,
    compare: Path | None = None,
    device: str = "cpu",
    progress: Callable[[str], None] = print,
) -> Evaluation:
    """Measure `repeats` draws of a generator's motions by `evaluation.metrics` against the dataset of `data.path`.

    Args:
        generator: a GAN, or whatever samples motions; its `spec` must be the dataset's.
        source: the generator's name in messages and in the record.
        repeats: draws, from `evaluation.seed` on.
        floors: measure the real data against itself too.
        compare: the JSON of an earlier evaluation, whose scores are set beside.

    Raises UserError for a generator of other motions, one that has diverged, and scores that cannot be compared.
    """
    view = _view(settings)
    _check_same_motions(source, generator.spec, view)
    evaluator = Evaluator(view, settings.evaluation, device, progress)

    def draw(seed: int, metrics: tuple[str, ...]) -> dict[str, float]:
        return evaluator.evaluate(generator, metrics, seed)

    return _evaluation(evaluator, source, repeats, draw, floors, compare)


def evaluate_motions(
    file: Path,
    settings: Settings,
    *,
    labels: Path | None = None,
    units: str = "metres",
    floors: bool = True,
    compare: Path | None = None,
    device: str = "cpu",
    progress: Callable[[str], None] = print,
) -> Evaluation:
    """Measure the motions of a file by `evaluation.metrics` against the dataset of `data.path`.

    `read_motions` says what `file`, `labels` and `units` may be; the rest is as in `evaluate_generator`.
    """
    view = _view(settings)
    loaded = read_motions(file, labels, view.spec, units=units)  # before minutes go into an extractor
    evaluator = Evaluator(view, settings.evaluation, device, progress)
    other = other_classes(loaded.labels, evaluator.real.labels)
    if other > MOST_OTHER_CLASSES:
        progress(
            f"note: {file}: {other:.0%} of its motions are of other classes than in the training split's proportions; "
            "fid, kid and the scores of neighbours see that too"
        )

    def draw(seed: int, metrics: tuple[str, ...]) -> dict[str, float]:
        return evaluator.score(loaded.motions, loaded.labels, metrics)

    return _evaluation(evaluator, str(file), 1, draw, floors, compare, len(loaded.labels))


def _view(settings: Settings) -> DataView:
    if settings.data.path is None:
        raise UserError("--data is missing: the dataset to measure against")
    return Dataset.open(settings.data.path).view(settings.data)


def _evaluation(
    evaluator: Evaluator,
    source: str,
    repeats: int,
    draw: Draw,
    floors: bool,
    compare: Path | None,
    num_motions: int | None = None,
) -> Evaluation:
    """Measure and compare; `num_motions` are those of a draw, None = as many as the settings say."""
    metrics = evaluator.settings.metrics
    if "accuracy" in metrics and "accuracy_per_class" not in metrics:
        metrics = (*metrics, "accuracy_per_class")
    if "fid" in metrics and "fid_test" not in metrics and evaluator.view.holds_out:
        metrics = (*metrics, "fid_test")
    about = _about(evaluator, source, repeats, num_motions or evaluator.settings.num_motions)
    earlier = read_scores(compare, about) if compare else {}
    try:
        draws = [draw(seed, metrics) for seed in about.seeds]
    except DivergedError as error:
        raise UserError(f"{source}: {error}; the generator has diverged") from None
    return Evaluation(about, draws, _floors(evaluator, metrics) if floors else {}, earlier)


def _floors(evaluator: Evaluator, metrics: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Measure the real data against itself; where nothing is held out, say that no floor of a test split can be."""
    if not evaluator.view.holds_out:
        evaluator.progress("note: data.benchmark=all holds nothing out: there is no floor of a test split")
        return {"halves": evaluator.halves(metrics)}
    return {"test": evaluator.floor(metrics), "halves": evaluator.halves(metrics)}


def _about(evaluator: Evaluator, source: str, repeats: int, num_motions: int) -> About:
    settings, extractor = evaluator.settings, evaluator.extractor
    return About(
        source=source,
        dataset=evaluator.view.hash,
        benchmark=evaluator.view.settings.benchmark,
        extractor=extractor.hash,
        extractor_accuracy=extractor.accuracy,
        extractor_tested_on=extractor.tested_on,
        extractor_chance=extractor.recognition.chance,
        extractor_confusion=extractor.confusion,
        extractor_mistakes=extractor.mistakes(),
        num_real=len(evaluator.real.labels),
        num_test=len(evaluator.test.labels) if evaluator.view.holds_out else 0,
        num_motions=num_motions,
        truncation=settings.truncation,
        seeds=[settings.seed + repeat for repeat in range(repeats)],
    )


def _check_same_motions(source: str, theirs: MotionSpec, view: DataView) -> None:
    """Refuse a generator of other motions than the dataset's: its scores would not mean anything."""
    ours = view.spec
    for name in ("layout", "coordinates", "frames", "centre", "class_names", "value_range"):
        there, here = getattr(theirs, name), getattr(ours, name)
        if there != here:
            if name == "layout":
                there, here = there.name, here.name
            raise UserError(f"{source}: a generator of motions with {name} {there}; {view.path} has {here}")
