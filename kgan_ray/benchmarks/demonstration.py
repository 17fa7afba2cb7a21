"""Do the metrics see what they should? Real motions of the test split, spoilt in known ways and scored like generated ones.

python -m kgan_ray.benchmarks.demonstration datasets/ucla --preset ucla-xview --output docs

writes docs/metrics.png and prints the table as Markdown. Strength 0 is the unspoilt test split, so the floor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from kgan_ray.cli import add_settings_options, print_settings, run_verb, settings_of, verb_parser
from kgan_ray.data.dataset import Dataset
from kgan_ray.data.loading import MotionTensors
from kgan_ray.metrics.evaluation import Estimate, estimates
from kgan_ray.metrics.suite import Evaluator
from kgan_ray.publishing import writing_output
from kgan_ray.settings import UserError
from kgan_ray.skeleton import MotionSpec

SHOWN = (
    "fid",
    "coverage",
    "accuracy",
    "nearest_ratio",
    "mmd_avg",
    "mmd_seq",
    "mmd_avg_published",
    "mmd_seq_published",
)
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
# At strength 1:
MOST_NOISE = 0.1  # metres
MOST_TURN = 90.0  # degrees
MOST_GROWTH = 0.5
MOST_SHIFT = 1.0  # metres
MOST_THINNING = 0.9
Spoil = Callable[[MotionTensors, float, torch.Generator, MotionSpec], MotionTensors]
ScoresByStrength = dict[str, dict[float, dict[str, Estimate]]]  # [way of spoiling][strength][metric]


def add_noise(clean: MotionTensors, strength: float, random: torch.Generator, spec: MotionSpec) -> MotionTensors:
    """Add Gaussian noise to every coordinate, of up to 10 cm standard deviation."""
    low, high = spec.value_range
    noise = torch.randn(clean.motions.shape, generator=random) * (strength * MOST_NOISE * 2 / (high - low))
    return MotionTensors(clean.motions + noise, clean.labels)


def freeze(clean: MotionTensors, strength: float, random: torch.Generator, spec: MotionSpec) -> MotionTensors:
    """Stop the last `strength` of the frames at the pose before them; at 1 nothing moves at all."""
    last = round((1 - strength) * (spec.frames - 1))
    return MotionTensors(clean.motions[:, :, torch.arange(spec.frames).clamp(max=last)], clean.labels)


def swap_labels(clean: MotionTensors, strength: float, random: torch.Generator, spec: MotionSpec) -> MotionTensors:
    """Give a share of the motions another class's label."""
    other = clean.labels + torch.randint(1, spec.num_classes, clean.labels.shape, generator=random)
    chosen = _share(len(clean.labels), strength, random)
    return MotionTensors(clean.motions, torch.where(chosen, other % spec.num_classes, clean.labels))


def collapse(clean: MotionTensors, strength: float, random: torch.Generator, spec: MotionSpec) -> MotionTensors:
    """Replace a share of each class's motions by copies of one motion of the class."""
    motions = clean.motions.clone()
    chosen = _share(len(clean.labels), strength, random)
    for label in clean.labels.unique():
        own = clean.labels == label
        motions[own & chosen] = clean.motions[own][0]
    return MotionTensors(motions, clean.labels)


def reverse(clean: MotionTensors, strength: float, random: torch.Generator, spec: MotionSpec) -> MotionTensors:
    """Turn a share of the motions round in time."""
    chosen = _share(len(clean.labels), strength, random)[:, None, None, None]
    return MotionTensors(torch.where(chosen, clean.motions.flip(2), clean.motions), clean.labels)


def turn(clean: MotionTensors, strength: float, random: torch.Generator, spec: MotionSpec) -> MotionTensors:
    """Turn all bodies about the vertical, by up to 90 degrees."""
    angle = torch.tensor(strength * MOST_TURN).deg2rad()
    x, y, z = spec.to_metres(clean.motions).unbind(dim=1)
    turned = torch.stack([angle.cos() * x + angle.sin() * z, y, angle.cos() * z - angle.sin() * x], dim=1)
    return MotionTensors(spec.from_metres(turned) if strength else clean.motions, clean.labels)


def grow(clean: MotionTensors, strength: float, random: torch.Generator, spec: MotionSpec) -> MotionTensors:
    """Make all bodies larger, by up to a half."""
    larger = spec.from_metres(spec.to_metres(clean.motions) * (1 + strength * MOST_GROWTH))
    return MotionTensors(larger if strength else clean.motions, clean.labels)


def shift(clean: MotionTensors, strength: float, random: torch.Generator, spec: MotionSpec) -> MotionTensors:
    """Move all bodies sideways, by up to a metre."""
    low, high = spec.value_range
    motions = clean.motions.clone()
    motions[:, 0] += strength * MOST_SHIFT * 2 / (high - low)
    return MotionTensors(motions, clean.labels)


def thin_classes(
    clean: MotionTensors, strength: float, random: torch.Generator, spec: MotionSpec
) -> MotionTensors:
    """Drop motions of every other class, up to nine of ten."""
    spared = clean.labels % 2 == 0
    kept = spared | ~_share(len(clean.labels), strength * MOST_THINNING, random)
    return MotionTensors(clean.motions[kept], clean.labels[kept])


def copy_training(
    clean: MotionTensors, strength: float, random: torch.Generator, spec: MotionSpec, *, train: MotionTensors
) -> MotionTensors:
    """Replace a share of the motions by training motions of the same class."""
    motions = clean.motions.clone()
    for row in torch.nonzero(_share(len(clean.labels), strength, random)).flatten():
        own = torch.nonzero(train.labels == clean.labels[row]).flatten()
        motions[row] = train.motions[own[torch.randint(len(own), (), generator=random)]]
    return MotionTensors(motions, clean.labels)


SPOILS: dict[str, Spoil] = {
    "added noise": add_noise,
    "frozen motion": freeze,
    "swapped labels": swap_labels,
    "mode collapse": collapse,
    "time reversal": reverse,
    "turned bodies": turn,
    "larger bodies": grow,
    "moved bodies": shift,
    "thinned classes": thin_classes,
}
COPIES = "training motions"
AMOUNTS: dict[str, tuple[float, str]] = {  # at strength 1; of the others, all motions or frames
    "added noise": (MOST_NOISE * 100, " cm"),
    "turned bodies": (MOST_TURN, "°"),
    "larger bodies": (MOST_GROWTH * 100, "%"),
    "moved bodies": (MOST_SHIFT * 100, " cm"),
    "thinned classes": (MOST_THINNING * 100, "%"),
}


def _share(count: int, strength: float, random: torch.Generator) -> Tensor:
    """Choose a random share of `count` rows: True for those, (count,)."""
    return torch.randperm(count, generator=random) < round(strength * count)


@dataclass(frozen=True)
class Demonstration:
    """The scores of motions spoilt in every way at every strength, over `repeats` draws each."""

    results: ScoresByStrength
    repeats: int

    def figure(self, path: Path) -> None:
        """Draw a panel for each metric: a line for each way of spoiling, in a band of one standard deviation."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(13, 9.6), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(3, 3).flat
        for name, axes in zip(SHOWN, grid, strict=False):
            for (spoil, rows), marker in zip(self.results.items(), "os^DvPX*<>", strict=True):
                scores = [row[name] for row in rows.values()]
                means = torch.tensor([score.mean for score in scores])
                stds = torch.tensor([score.std or 0.0 for score in scores])
                (line,) = axes.plot(list(rows), means, marker=marker, markersize=5, label=spoil)
                axes.fill_between(list(rows), means - stds, means + stds, color=line.get_color(), alpha=0.15)
            axes.set(xlabel="strength", ylabel=name, title=name)
            axes.set_ylim(bottom=0)
            axes.grid(visible=True, alpha=0.3)
        legend = list(grid)[-1]
        legend.axis("off")
        handles, names = axes.get_legend_handles_labels()
        legend.legend(handles, names, loc="upper left", frameon=False, fontsize="small")
        units = [f"{spoil}: strength x {most:g}{unit}" for spoil, (most, unit) in AMOUNTS.items()]
        lines = ["strength: share of the motions", "frozen motion: of the frames", *units]
        lines += ["", f"band: one standard deviation of {self.repeats} draws"]
        legend.text(0.45, 0.98, "\n".join(lines), transform=legend.transAxes, va="top", fontsize="small")
        figure.savefig(path, dpi=100)

    def table(self) -> str:
        """Write a Markdown table: a row for each way and strength, mean and standard deviation of each metric."""
        lines = ["| spoilt by | strength | " + " | ".join(f"`{name}`" for name in SHOWN) + " |"]
        lines.append("|---|---" + "|--:" * len(SHOWN) + "|")
        untouched = next(iter(self.results.values()))[0.0]
        lines.append(_row("nothing", "0", untouched))
        for spoil, rows in self.results.items():
            for strength, scores in rows.items():
                most, unit = AMOUNTS.get(spoil, (100.0, "%"))
                amount = f"{strength * most:g}{unit}"
                if strength:
                    lines.append(_row(spoil, amount, scores))
        return "\n".join(lines)


def _row(spoil: str, amount: str, scores: Mapping[str, Estimate]) -> str:
    cells = []
    for name in SHOWN:
        score = scores[name]
        spread = f" ± {score.std:.2g}" if score.std and score.std > 5e-4 * abs(score.mean) else ""
        cells.append(f"{score.mean:.3g}{spread}")
    return f"| {spoil} | {amount} | {' | '.join(cells)} |"


def demonstrate(evaluator: Evaluator, *, repeats: int, progress: Callable[[str], None]) -> Demonstration:
    """Score the test split against the training split, spoilt in every way at every strength.

    Each draw puts the motions in another order: so the published MMD, which looks at the first motion of a class, looks at
    another one, and a collapsed class is collapsed onto another.
    """
    test, train = evaluator.test, evaluator.view.load("train")
    spoils: dict[str, Spoil] = {**SPOILS, COPIES: partial(copy_training, train=train)}

    def score(spoil: Spoil, strength: float) -> dict[str, Estimate]:
        draws = []
        for seed in range(repeats):
            random = torch.Generator().manual_seed(seed)
            order = torch.randperm(len(test.labels), generator=random)
            clean = MotionTensors(test.motions.values.cpu()[order], test.labels.cpu()[order])
            spoilt = spoil(clean, strength, random, evaluator.spec)
            draws.append(evaluator.score(spoilt.motions, spoilt.labels, SHOWN))
        return estimates(draws)

    untouched = score(add_noise, 0.0)
    results: ScoresByStrength = {spoil: {0.0: untouched} for spoil in spoils}
    for spoil, function in spoils.items():
        for strength in STRENGTHS[1:]:
            results[spoil][strength] = score(function, strength)
            progress(f"{spoil} {strength:.0%}: fid {results[spoil][strength]['fid'].mean:.4g}")
    return Demonstration(results, repeats)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = verb_parser("benchmarks.demonstration", __doc__)
    parser.add_argument("data", metavar="DATASET", help="a prepared dataset")
    parser.add_argument("--output", metavar="DIR", default=".", help="where metrics.png goes (default: here)")
    parser.add_argument("--repeats", type=int, default=5, metavar="K", help="draws of each (default: 5)")
    add_settings_options(parser)
    options = parser.parse_args(arguments)
    if options.repeats < 1:
        raise UserError(f"--repeats {options.repeats}: at least 1 is needed")
    settings = settings_of(options)
    if options.dry_run:
        print_settings(settings)
        return 0
    evaluator = Evaluator(Dataset.open(options.data).view(settings.data), settings.evaluation)
    demonstration = demonstrate(evaluator, repeats=options.repeats, progress=print)
    figure = Path(options.output) / "metrics.png"
    with writing_output(figure):
        demonstration.figure(figure)
    print(f"\n{demonstration.table()}")
    return 0


if __name__ == "__main__":
    run_verb(main)
