"""What MLflow shows of a sweep as a whole: its own run, the columns of its runs table, its verdicts."""

from __future__ import annotations

from pathlib import Path

from kgan_ray.settings import Settings, flatten
from kgan_ray.text import safe_name
from kgan_ray.tracking.run import Run, active_run, start_run
from kgan_ray.tracking.store import set_runs_view
from kgan_ray.tracking.tags import Tag
from kgan_ray.tuning.answer.results import Results
from kgan_ray.tuning.question.space import Space
from kgan_ray.tuning.report.tables import description
from kgan_ray.tuning.state import Sweep


def open_parent(sweep: Sweep, space: Space, settings: Settings, code: str) -> Run:
    """Start or continue the sweep's own run, under which its trials are listed; `code` is what runs.

    One that was deleted is replaced by a new one: what the record lost does not keep a sweep from going on.
    """
    run = start_run(
        sweep.uri,
        experiment=sweep.experiment,
        name=sweep.name,
        run_id=sweep.parent_id if sweep.parent_id and active_run(sweep.uri, sweep.parent_id) else None,
        params=flatten(settings),
        tags={Tag.STAGE: "sweep", Tag.DATASET: sweep.dataset_hash, Tag.CODE: code},
    )
    run.log_dataset(Path(sweep.dataset).name, sweep.dataset_hash, sweep.dataset)
    sweep.parent_id = run.id
    group = [Tag.GROUP] if space.groups else []
    set_runs_view(
        sweep.uri,
        sweep.experiment,
        metrics=[f"metric/{name}" for name in settings.evaluation.metrics],
        params=[*space.searched, "seed"],
        tags=[Tag.STAGE, *group, Tag.CONFIGURATION, Tag.VERDICT, Tag.OUTCOME],
        lowest_first=sweep.mode == "min",
    )
    return run


def trial_tags(sweep: Sweep, code: str) -> dict[str, str]:
    """Return the tags that the runs of all trials of a sweep have."""
    return {Tag.SWEEP: sweep.name, Tag.DATASET: sweep.dataset_hash, Tag.CODE: code}


def record_verdicts(results: Results, parent: Run) -> None:
    """Describe the comparison on the sweep's run, and tag each verdict there and on every run that it rests on."""
    words = {(row.group, row.configuration): row.verdict.word for row in results.rows if row.verdict}
    parent.set_tags(
        {
            Tag.DESCRIPTION: description(results),
            **{safe_name(".".join(filter(None, (Tag.VERDICT, *names)))): word for names, word in words.items()},
        }
    )
    for row in results.rows:
        for trial in row.runs:
            if trial.run_id and row.verdict and (run := active_run(results.sweep.uri, trial.run_id)):
                run.set_tags({Tag.VERDICT: row.verdict.word})
