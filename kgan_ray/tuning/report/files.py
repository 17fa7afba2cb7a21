"""The report's folder: tables, page and pictures, written and logged to MLflow."""

from __future__ import annotations

from kgan_ray.storage import StorePath, written_locally
from kgan_ray.tracking.run import Run, active_run
from kgan_ray.tracking.store import refuse_silent_server
from kgan_ray.tuning.answer.results import Results
from kgan_ray.tuning.report import tables
from kgan_ray.tuning.report.page import html
from kgan_ray.tuning.report.side_by_side import draw_side_by_side
from kgan_ray.tuning.report.study import write_study
from kgan_ray.tuning.state import find_sweep, load_sweep, other_sweeps

STUDY = "study.log"  # a journal of Optuna's


def report_sweep(
    name: str, results_folder: StorePath, output: str | None = None, *, log: bool = True
) -> list[StorePath]:
    """Write the report of a sweep as its record stands, running or not; returns the files, the Markdown page first.

    `output` is where to write (default: the sweep's folder/report). With `log` the files are also stored with the
    sweep's run in MLflow, whose status stays as it is. Raises UserError where there is no such sweep.
    """
    folder = find_sweep(results_folder, name)
    sweep = load_sweep(folder)
    if log:
        refuse_silent_server(sweep.uri)
    run = active_run(sweep.uri, sweep.parent_id) if log and sweep.parent_id else None
    place = StorePath(output) if output else folder / "report"
    return write_report(Results(sweep, other_sweeps(folder), folder), place, run, folder / "trials")


def write_report(
    results: Results, folder: StorePath, run: Run | None = None, trials: StorePath | None = None
) -> list[StorePath]:
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
        (local / "report.html").write_text(html(results, pictures), encoding="utf-8")
        names = [*texts, "report.html", *(picture.name for picture in pictures)]
        names += [STUDY] if write_study(results.sweep, local / STUDY) else []
        if run:
            for name in names:
                run.log_artifact(local / name, "report")
    return [folder / name for name in names]
