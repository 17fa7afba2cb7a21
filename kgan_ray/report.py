"""Write a sweep's results: tables (HTML, Markdown, CSV) and learning curves (PNG), and log them to MLflow.

python -m kgan_ray.report disc
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kgan_ray.cli import run_verb, verb_parser
from kgan_ray.settings import UserError, close_match

if TYPE_CHECKING:
    from kgan_ray.tracking import Run
    from kgan_ray.tuning.state import Sweep, Trial


def main(arguments: Sequence[str] | None = None) -> int:
    parser = verb_parser("report", __doc__)
    parser.add_argument("sweep", metavar="SWEEP", help="a sweep's name, or its folder")
    parser.add_argument("--results", default="results", metavar="DIR", help="where sweeps are kept")
    parser.add_argument("--output", metavar="DIR", help="where to write (default: SWEEP's folder/report)")
    parser.add_argument("--offline", action="store_true", help="write the files only, log nothing to MLflow")
    options = parser.parse_args(arguments)

    from kgan_ray.tracking import start_run
    from kgan_ray.tuning.state import load_sweep

    folder = find_sweep(options.sweep, Path(options.results))
    sweep = load_sweep(folder)
    run = None
    output = Path(options.output) if options.output else folder / "report"
    if sweep.parent_id and not options.offline:
        run = start_run(sweep.uri, experiment=sweep.experiment, name=sweep.name, run_id=sweep.parent_id)
    files = write_report(sweep, output, run)
    if run:
        run.finish()
    print(files[0].read_text(encoding="utf-8"))
    for file in files:
        print(file)
    return 0


def find_sweep(name: str, results: Path) -> Path:
    """The folder of a sweep that is given by its folder, or by its name in `results`."""
    from kgan_ray.tuning.state import FILE

    for folder in (Path(name), results / name):
        if (folder / FILE).exists():
            return folder
    known = sorted(file.parent.name for file in results.glob(f"*/{FILE}"))
    there = f"there are: {', '.join(known)}" if known else "there is none"
    raise UserError(f"{name}: no sweep of that name in {results}.{close_match(name, known)} {there}")


def write_report(sweep: Sweep, folder: Path, run: Run | None = None) -> list[Path]:
    """Write the report's files into `folder`, the Markdown page first, and log them to `run`.

    Raises UserError where runs would be ranked that were measured with different extractors or data.
    """
    from kgan_ray.tuning import summary
    from kgan_ray.tuning.page import html

    page = summary.markdown(sweep)
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "report.md": page,
        "configurations.csv": summary.csv_text(summary.configuration_rows(sweep)),
        "trials.csv": summary.csv_text(summary.trial_rows(sweep)),
    }
    files = []
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
        files.append(folder / name)
    pictures = draw_curves(sweep, folder)
    (folder / "report.html").write_text(html(sweep, pictures), encoding="utf-8")
    files += [folder / "report.html", *pictures]
    if run:
        for file in files:
            run.log_artifact(file, "report")
    return files


def draw_curves(sweep: Sweep, folder: Path) -> list[Path]:
    """Learning curves of the objective: one picture of the explored trials, one of each confirmed group."""
    from kgan_ray.tuning.state import CONFIRM, EXPLORE
    from kgan_ray.tuning.sweep import groups_of
    from kgan_ray.visual.charts import learning_curves

    pictures: dict[str, tuple[str, dict[str, list[tuple[int, float]]]]] = {}
    explored = _curves(sweep.stage(EXPLORE))
    if explored:
        pictures["curves-explore.png"] = (f"{sweep.name}: explored trials", explored)
    for group in groups_of(sweep):
        runs = [trial for trial in sweep.stage(CONFIRM) if trial.group == group]
        title = f"{sweep.name}: confirmation runs" + (f", {group}" if group else "")
        name = f"curves-confirm-{group}.png" if group else "curves-confirm.png"
        if curves := _curves(runs):
            pictures[name] = (title, curves)
    for name, (title, curves) in pictures.items():
        is_positive = all(value > 0 for curve in curves.values() for _, value in curve)
        learning_curves(curves, folder / name, ylabel=sweep.metric, title=title, log=is_positive)
    return [folder / name for name in pictures]


def _curves(trials: Sequence[Trial]) -> dict[str, list[tuple[int, float]]]:
    label = {trial.name: f"{trial.configuration} seed {trial.seed}" for trial in trials}
    if trials and trials[0].stage == "explore":
        label = {trial.name: trial.name for trial in trials}
    return {label[trial.name]: trial.curve for trial in trials if trial.curve}


if __name__ == "__main__":
    run_verb(main)
