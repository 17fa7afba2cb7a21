"""Motions of the best confirmed configuration beside the baseline's, as a contact sheet and as an animation."""

from __future__ import annotations

from pathlib import Path

import torch

from kgan_ray.run_folder import CHECKPOINTS
from kgan_ray.storage import StorePath
from kgan_ray.training.checkpoint import CheckpointStore, load_generator
from kgan_ray.tuning.answer.results import Results
from kgan_ray.tuning.question.space import BASELINE
from kgan_ray.tuning.state import Trial
from kgan_ray.visual.stick import Titled, animate, contact_sheet

MOST_CLASSES = 6


def draw_side_by_side(results: Results, trials: StorePath, folder: Path) -> list[Path]:
    """Write motions.png and motions.gif into `folder`; nothing where the two runs' checkpoints are not in `trials`."""
    generators = {}
    for label, trial in _compared(results):
        store = CheckpointStore(trials / trial.name / CHECKPOINTS)
        checkpoint = store.best(results.sweep.metric, lowest=results.lowest_is_best)
        if checkpoint is None:
            return []
        generators[label] = load_generator(checkpoint)
    if len(generators) < 2:
        return []
    rows: Titled = []
    first = next(iter(generators.values())).spec
    classes = torch.linspace(0, first.num_classes - 1, min(MOST_CLASSES, first.num_classes)).long().unique()
    motions_of = {name: gan.spec.to_metres(gan.sample(classes)).numpy() for name, gan in generators.items()}
    for number, label in enumerate(classes.tolist()):
        rows += [(f"{first.class_names[label]}: {name}", motions[number]) for name, motions in motions_of.items()]
    sheet, film = folder / "motions.png", folder / "motions.gif"
    contact_sheet(rows, first.layout, sheet)
    animate(rows, first.layout, film, columns=4)
    return [sheet, film]


def _compared(results: Results) -> list[tuple[str, Trial]]:
    """Return the best runs of the baseline and of the best other configuration, of the first group that has both, with their labels."""
    for group in results.groups:
        best = results.best_run(group, lambda row: row.configuration != BASELINE)
        base = results.best_run(group, lambda row: row.configuration == BASELINE)
        if best and base:
            labels = {row.configuration: row.label for row in results.rows if row.group == group}
            return [(labels[trial.configuration], trial) for trial in (base, best)]
    return []
