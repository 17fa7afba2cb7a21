"""The report's folder: tables, page and pictures, written and logged to MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kgan_ray.storage import AnyPath, any_path, written_locally
from kgan_ray.tracking.run import Run, existing_run
from kgan_ray.tuning.answer.results import Results
from kgan_ray.tuning.report import tables
from kgan_ray.tuning.report.page import html
from kgan_ray.tuning.report.side_by_side import draw_side_by_side
from kgan_ray.tuning.state import CONFIRM, EXPLORE, Sweep, Trial, find_sweep, load_sweep
from kgan_ray.visual.charts import learning_curves


def report_sweep(
    name: str, results_folder: AnyPath, output: str | None = None, *, log: bool = True
) -> list[AnyPath]:
    """Write the report of a sweep as its record stands, running or not; returns the files, the Markdown page first.

    `output` is where to write (default: the sweep's folder/report). With `log` the files are also stored with the
    sweep's run in MLflow, whose status stays as it is. Raises UserError where there is no such sweep.
    """
    folder = find_sweep(results_folder, name)
    sweep = load_sweep(folder)
    run = existing_run(sweep.uri, sweep.parent_id) if log and sweep.parent_id else None
    place = any_path(output) if output else folder / "report"
    return write_report(Results(sweep), place, run, folder / "trials")


def write_report(
    results: Results, folder: AnyPath, run: Run | None = None, trials: AnyPath | None = None
) -> list[AnyPath]:
    """Write the report's files into `folder`, the Markdown page first, and log them to `run`; returns their paths.

    `trials` is the folder of the trials' checkpoints, from which the best configuration's motions and the baseline's
    are drawn.
    """
    texts = {
        "report.md": tables.markdown(results),
        "configurations.csv": tables.configurations_csv(results),
        "trials.csv": tables.trials_csv(results),
    }
    with written_locally(folder) as local:
        for name, text in texts.items():
            (local / name).write_text(text, encoding="utf-8")
        pictures = draw_side_by_side(results, trials, local) if trials else []
        pictures += draw_curves(results.sweep, results.groups, local)
        (local / "report.html").write_text(html(results, pictures), encoding="utf-8")
        names = [*texts, "report.html", *(picture.name for picture in pictures)]
        if run:
            for name in names:
                run.log_artifact(local / name, "report")
    return [folder / name for name in names]


def draw_curves(sweep: Sweep, groups: Sequence[str], folder: Path) -> list[Path]:
    """Learning curves of the objective: one picture of the explored trials, one of each confirmed group."""
    pictures: dict[str, tuple[str, dict[str, list[tuple[int, float]]]]] = {}
    explored = _curves(sweep.stage(EXPLORE))
    if explored:
        pictures["curves-explore.png"] = (f"{sweep.name}: explored trials", explored)
    for group in groups:
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
    if trials and trials[0].stage == EXPLORE:
        label = {trial.name: trial.name for trial in trials}
    return {label[trial.name]: trial.curve for trial in trials if trial.curve}
