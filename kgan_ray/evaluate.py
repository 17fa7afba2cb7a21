"""Measure a generator, or motions from elsewhere, by any metrics, with error bars and the real data's own floor.

python -m kgan_ray.evaluate results/run --data datasets/ntu60 --metrics fid accuracy --repeats 5
python -m kgan_ray.evaluate motions.npy --labels labels.npy --data datasets/ntu60
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kgan_ray.cli import add_settings_options, parse_overrides, print_settings, run_verb, verb_parser
from kgan_ray.settings import Settings, UserError, override, resolve_settings

if TYPE_CHECKING:
    import argparse

    from kgan_ray.metrics.repeats import Estimate
    from kgan_ray.metrics.suite import Evaluator
    from kgan_ray.skeleton import MotionSpec
    from kgan_ray.training.gan import GAN


def main(arguments: Sequence[str] | None = None) -> int:
    parser = verb_parser("evaluate", __doc__)
    parser.add_argument(
        "source", metavar="SOURCE", help="a checkpoint or a run's folder, a .npy or a .parquet file"
    )
    parser.add_argument("--data", metavar="DIR", help="the dataset to measure against (default: the checkpoint's)")
    parser.add_argument("--metrics", nargs="+", metavar="NAME", help="default: those of evaluation.metrics")
    parser.add_argument("--repeats", type=int, default=1, metavar="K", help="draw generated motions K times")
    parser.add_argument("--num-motions", type=int, metavar="N", help="generated motions of each draw")
    parser.add_argument("--truncation", type=float, metavar="X", help="psi in w; 1 = off")
    parser.add_argument("--labels", metavar="FILE", help="class numbers of the motions in a .npy file")
    parser.add_argument(
        "--units", choices=("metres", "scaled"), default="metres", help="of a file's motions (scaled: in [-1, 1])"
    )
    parser.add_argument("--no-floor", action="store_true", help="leave out the real data against itself")
    parser.add_argument("--compare", metavar="FILE", help="an earlier --output to set beside")
    parser.add_argument("--output", metavar="FILE", help="write the record as .json, or the table as .csv")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    add_settings_options(parser)
    options = parser.parse_args(arguments)
    if options.repeats < 1:
        raise UserError(f"--repeats {options.repeats}: at least 1 is needed")
    if options.output and Path(options.output).suffix not in (".json", ".csv"):
        raise UserError(f"--output {options.output}: expected a name that ends in .json or .csv")
    return _evaluate(options)


def _evaluate(options: argparse.Namespace) -> int:
    from kgan_ray.data.dataset import Dataset
    from kgan_ray.metrics.motion_file import SUFFIXES
    from kgan_ray.metrics.names import check_metric_name
    from kgan_ray.metrics.repeats import estimates, read_record, record_of
    from kgan_ray.metrics.suite import DivergedError, Evaluator
    from kgan_ray.training.checkpoint import load_generator

    for name in options.metrics or ():
        check_metric_name(name, where="--metrics")
    is_file = Path(options.source).suffix in SUFFIXES
    if is_file and options.repeats > 1:
        raise UserError(f"--repeats {options.repeats}: motions of a file cannot be drawn again; give a checkpoint")
    gan = None if is_file else load_generator(options.source, options.device)
    settings = _settings(options, gan)
    if options.dry_run:
        print_settings(settings)
        return 0
    for name in settings.evaluation.metrics:
        check_metric_name(name, where="evaluation.metrics")
    if settings.data.path is None:
        raise UserError("--data is missing: the dataset to measure against")
    evaluator = Evaluator(
        Dataset.open(settings.data.path).view(settings.data), settings.evaluation, options.device
    )
    if gan:
        _check_same_motions(options.source, gan.spec, evaluator)
    about = _about(options, settings, evaluator)
    earlier = read_record(Path(options.compare), about)["scores"] if options.compare else {}
    try:
        drawn = _draw(options, settings, evaluator, gan)
    except DivergedError as error:
        raise UserError(f"{options.source}: {error}; the generator has diverged") from None
    scores = estimates(drawn)
    names = _names(settings)
    floors = {} if options.no_floor else {"test": evaluator.floor(names), "halves": evaluator.halves(names)}
    _print_table(about, scores, floors, earlier)
    if options.output:
        _write(Path(options.output), record_of(about, scores, repeats=drawn, floor=floors))
    return 0


def _settings(options: argparse.Namespace, gan: GAN | None) -> Settings:
    """The checkpoint's settings, or those of --preset, with what the options change."""
    if gan and options.preset:
        raise UserError("--preset: a checkpoint brings its own settings; change single ones with --set")
    overrides = parse_overrides(options.overrides)
    settings = override(gan.settings, overrides) if gan else resolve_settings(options.preset, overrides)
    given = {
        "data.path": options.data,
        "evaluation.metrics": options.metrics,
        "evaluation.num_motions": options.num_motions,
        "evaluation.truncation": options.truncation,
    }
    return override(settings, {name: value for name, value in given.items() if value is not None})


def _check_same_motions(source: str, theirs: MotionSpec, evaluator: Evaluator) -> None:
    """Refuse a generator of other motions than the dataset's: its scores would not mean anything."""
    ours = evaluator.spec
    for name in ("coordinates", "frames", "centre", "class_names", "value_range", "layout"):
        there, here = getattr(theirs, name), getattr(ours, name)
        if there != here:
            shown = (there.name, here.name) if name == "layout" else (there, here)
            raise UserError(
                f"{source}: a generator of motions with {name} {shown[0]}; {evaluator.view.path} has {shown[1]}"
            )


def _about(options: argparse.Namespace, settings: Settings, evaluator: Evaluator) -> dict[str, Any]:
    evaluation = settings.evaluation
    return {
        "source": str(options.source),
        "dataset": evaluator.view.hash,
        "benchmark": settings.data.benchmark,
        "extractor": evaluator.extractor_hash,
        "extractor_accuracy": evaluator.extractor_accuracy,
        "extractor_confusion": evaluator.extractor.confusion,
        "extractor_mistakes": evaluator.extractor.mistakes(evaluator.spec.class_names),
        "num_real": len(evaluator.real.labels),
        "num_test": len(evaluator.test.labels),
        "num_motions": evaluation.num_motions,
        "truncation": evaluation.truncation,
        "batch_norm": evaluation.batch_norm,
        "seeds": [evaluation.seed + repeat for repeat in range(options.repeats)],
    }


def _draw(
    options: argparse.Namespace, settings: Settings, evaluator: Evaluator, gan: GAN | None
) -> list[dict[str, float]]:
    """The metrics of every draw."""
    from kgan_ray.metrics.motion_file import read_motions

    evaluation = settings.evaluation
    if gan is None:
        labels = Path(options.labels) if options.labels else None
        found = read_motions(Path(options.source), labels, evaluator.spec, units=options.units)
        motions, classes = (tensor.to(evaluator.device) for tensor in (found.motions, found.labels))
        return [evaluator.score(motions, classes, _names(settings))]
    return [
        evaluator.evaluate(
            lambda labels, seed: gan.sample(
                labels, seed=seed, truncation=evaluation.truncation, batch_norm=evaluation.batch_norm
            ),
            _names(settings),
            seed=evaluation.seed + repeat,
        )
        for repeat in range(options.repeats)
    ]


def _names(settings: Settings) -> tuple[str, ...]:
    """The metrics asked for; who asks for the accuracy is told that of each class too."""
    names = settings.evaluation.metrics
    return (*names, "accuracy_per_class") if "accuracy" in names and "accuracy_per_class" not in names else names


def _print_table(
    about: Mapping[str, Any],
    scores: Mapping[str, Estimate],
    floors: Mapping[str, Mapping[str, float]],
    earlier: Mapping[str, Mapping[str, float]],
) -> None:
    print(
        f"dataset {about['dataset']}  extractor {about['extractor']} ({about['extractor_accuracy']:.1%} of test motions "
        f"right)  {about['num_real']} real motions  {len(about['seeds'])} draw(s)"
    )
    if about["extractor_mistakes"]:
        print(f"the extractor's most frequent mistakes on test motions: {'; '.join(about['extractor_mistakes'])}")
    columns = ["metric", "mean", "std", "95 % interval"]
    columns += ["floor: test", "floor: halves"] if floors else []
    columns += ["earlier"] if earlier else []
    rows = [columns]
    for name, score in scores.items():
        interval = "-" if score.low is None else f"{score.low:.4g} .. {score.high:.4g}"
        row = [name, f"{score.mean:.4g}", "-" if score.std is None else f"{score.std:.2g}", interval]
        row += [_shown(floor.get(name)) for floor in floors.values()]
        row += [_shown(earlier[name]["mean"] if name in earlier else None)] if earlier else []
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(columns))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _write(path: Path, record: Mapping[str, Any]) -> None:
    """The record as JSON; as CSV, one line a metric with what it was measured by."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".json":
            path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            return
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            measure = ["source", "dataset", "benchmark", "extractor", "extractor_accuracy", "num_motions"]
            writer.writerow(
                ["metric", "mean", "std", "low", "high", "floor_test", "floor_halves", *measure, "seeds"]
            )
            for name, score in record["scores"].items():
                floors = [record["floor"].get(side, {}).get(name) for side in ("test", "halves")]
                about = [record[key] for key in measure]
                seeds = " ".join(map(str, record["seeds"]))
                writer.writerow([name, *score.values(), *floors, *about, seeds])
    except OSError as error:
        raise UserError(f"--output {path}: cannot be written ({error.strerror or error})") from None


if __name__ == "__main__":
    run_verb(main)
