"""What MLflow shows of a sweep as a whole: its own run, the columns of its runs table, its verdicts."""

from __future__ import annotations

from pathlib import Path

from kgan_ray.settings import Settings, flatten
from kgan_ray.text import safe_name
from kgan_ray.tracking.run import Run, existing_run, start_run
from kgan_ray.tracking.store import set_runs_view
from kgan_ray.tuning.answer.results import Results
from kgan_ray.tuning.question.space import Space
from kgan_ray.tuning.report.tables import comparison_lines
from kgan_ray.tuning.state import Sweep

DESCRIPTION = "mlflow.note.content"
VERDICT_TAG = "verdict"


def open_parent(sweep: Sweep, space: Space, settings: Settings, code: str) -> Run:
    """The sweep's own run, under which its trials are listed, started or continued; `code` is what runs."""
    run = start_run(
        sweep.uri,
        experiment=sweep.experiment,
        name=sweep.name,
        run_id=sweep.parent_id or None,
        params=flatten(settings),
        tags={"stage": "sweep", "dataset": sweep.dataset_hash, "code": code},
    )
    run.log_dataset(Path(sweep.dataset).name, sweep.dataset_hash, sweep.dataset)
    sweep.parent_id = run.id
    tags = ["stage", *(["group"] if space.groups else []), "configuration", VERDICT_TAG, "outcome"]
    set_runs_view(
        sweep.uri,
        sweep.experiment,
        metrics=[f"metric/{name}" for name in settings.evaluation.metrics],
        params=[*space.searched, "seed"],
        tags=tags,
        lowest_first=sweep.mode == "min",
    )
    return run


def record_verdicts(results: Results, parent: Run) -> None:
    """Describe the comparison on the sweep's run, and tag each verdict there and on every run that it rests on."""
    words = {(row.group, row.configuration): row.verdict.word for row in results.rows if row.verdict}
    parent.set_tags(
        {
            DESCRIPTION: "\n".join(comparison_lines(results)),
            **{safe_name(".".join(filter(None, (VERDICT_TAG, *names)))): word for names, word in words.items()},
        }
    )
    for row in results.rows:
        for trial in row.runs:
            if trial.run_id and row.verdict:
                existing_run(results.sweep.uri, trial.run_id).set_tags({VERDICT_TAG: row.verdict.word})
