"""Turn recordings into a dataset folder that all other commands read.

    python -m kgan_ray.prepare nturgbd_skeletons_s001_to_s017.zip --output datasets/ntu60
    python -m kgan_ray.prepare --demo --output datasets/demo

SOURCE is a folder or zip of NTU RGB+D .skeleton files, of NW-UCLA .json files, of KIMORE's or UI-PRMD's tables, or of
HumanML3D's new_joints; pyskl's .pkl; CTR-GCN's .npz; *_data.npy with *_label.pkl beside it, or a folder of them (Kinetic-GAN,
2s-AGCN, Shift-GCN); or an .npz of your own: motions (N, T, V, C) in metres and labels, with --layout for whose joints they
are. docs/data.md tells of each. Running the same command again does nothing. Recordings that cannot be used are set aside
with the reason, in rejected.jsonl.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kgan_ray.cli import ProgressLine, run_verb, verb_parser
from kgan_ray.settings import UserError

if TYPE_CHECKING:
    from kgan_ray.data.dataset import Dataset, Manifest
    from kgan_ray.data.prepare.manifest import Column

_DEMO_SEQUENCES = 2000


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    _check(options)
    from kgan_ray.data.prepare.service import Demo, prepare_dataset
    from kgan_ray.data.sources.units import parse_scale

    demo = Demo(
        num_sequences=options.num_sequences or _DEMO_SEQUENCES,
        seed=options.seed or 0,
        skeleton_files=Path(options.skeleton_files) if options.skeleton_files else None,
    )
    started = time.perf_counter()
    kinds: list[str] = []
    with ProgressLine() as line:
        prepared = prepare_dataset(
            demo if options.demo else options.sources,
            options.output,
            layout=options.layout,
            scale=parse_scale(options.scale) if options.scale else None,
            split=options.split,
            missing_list=options.missing_list,
            train_ids=_train_ids(options),
            min_per_class=options.min_per_class,
            force=options.force,
            progress=line,
            say=kinds.append,
        )
    if prepared.is_new:
        print(*kinds, sep="\n", end="\n" * bool(kinds))
        _print_summary(prepared.dataset, time.perf_counter() - started)
    else:
        print(
            f"{options.output}: already prepared from the same sources and options (hash {prepared.dataset.hash})"
        )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("prepare", __doc__)
    parser.add_argument("sources", metavar="SOURCE", nargs="*", help="recordings; several of one kind are joined")
    parser.add_argument("--output", metavar="DIR", required=True, help="the dataset folder (or URI) to write")
    parser.add_argument("--force", action="store_true", help="replace a different dataset that is in DIR")
    parser.add_argument(
        "--layout",
        metavar="NAME",
        help="whose joints arrays hold: a layout's name, or FILE.yaml of your own skeleton",
    )
    parser.add_argument(
        "--scale",
        metavar="S",
        help="metres a unit: 0.001 for millimetres; S,S or S,S,S for each axis, negative to turn it",
    )
    parser.add_argument(
        "--split",
        metavar="NAME",
        help="hash: every fifth recording tests, by its name; none: all train and test; or one of a file's own splits "
        "(default: the published one, the file's own, or else hash)",
    )
    parser.add_argument(
        "--missing-list", metavar="FILE", help="recordings to leave out, as NTU's authors list them"
    )
    parser.add_argument(
        "--min-per-class",
        type=int,
        metavar="N",
        help="refuse classes with fewer sequences (default: 2; 0 where the data set's classes are published)",
    )
    for column in ("subject", "camera", "setup"):
        parser.add_argument(
            f"--train-{column}s", metavar="1,2,..", help=f"{column}s that train, instead of the usual split"
        )
    parser.add_argument("--demo", action="store_true", help="synthesise motion instead of reading any")
    parser.add_argument(
        "--num-sequences", type=int, metavar="N", help=f"with --demo: how many (default: {_DEMO_SEQUENCES})"
    )
    parser.add_argument(
        "--seed", type=int, metavar="S", help="with --demo: another seed, another motion (default: 0)"
    )
    parser.add_argument(
        "--skeleton-files", metavar="DIR", help="with --demo: write .skeleton files there, and read those"
    )
    return parser


def _check(options: argparse.Namespace) -> None:
    if "" in (options.output, *options.sources):
        raise UserError("SOURCE and --output need a name each, and one is empty")
    if options.demo and options.sources:
        raise UserError("--demo needs no SOURCE; give one or the other")
    if not options.demo and not options.sources:
        raise UserError("a SOURCE or --demo is needed (--help shows what is accepted)")
    for name in ("num_sequences", "seed", "skeleton_files"):
        if not options.demo and getattr(options, name) is not None:
            raise UserError(f"--{name.replace('_', '-')} goes with --demo only")
    if options.num_sequences is not None and options.num_sequences < 1:
        raise UserError(f"--num-sequences {options.num_sequences}: at least 1 is needed")
    if options.seed is not None and options.seed < 0:
        raise UserError(f"--seed {options.seed}: 0 or more is accepted")


def _train_ids(options: argparse.Namespace) -> dict[Column, list[int]]:
    """Return the ids that the options --train-subjects, --train-cameras and --train-setups name."""
    texts: dict[Column, str | None] = {
        "subject": options.train_subjects,
        "camera": options.train_cameras,
        "setup": options.train_setups,
    }
    ids = {}
    for column, text in texts.items():
        try:
            if text:
                ids[column] = [int(word) for word in text.split(",")]
        except ValueError:
            raise UserError(f"--train-{column}s {text}: expected numbers with commas, such as 1,2,5") from None
    return ids


def _of_pairs(manifest: Manifest) -> str:
    """Say what `data.bodies=2` would train on."""
    pairs = manifest.pairs
    if pairs is None or not pairs.labels:
        return ""
    names = [manifest.class_names[label] for label in pairs.labels]
    lacking = f" (less {pairs.dropped} with one body)" if pairs.dropped else ""
    return f", and with data.bodies=2 both, of {len(names)} classes: {names[0]} to {names[-1]}{lacking}"


def _print_summary(dataset: Dataset, seconds: float) -> None:
    from kgan_ray.data.splits import holds_out

    manifest, counts = dataset.manifest, dataset.manifest.counts
    print(
        f"{dataset.path}: {counts.kept} sequences of {manifest.layout.name} in {seconds:.1f} s, "
        f"hash {dataset.hash}"
    )
    if counts.rejected:
        print(f"set aside: {counts.rejected} of {counts.read}, with reasons in rejected.jsonl")
    if counts.second_body:
        print(f"second body: in {counts.second_body} sequences; training uses the main body{_of_pairs(manifest)}")
    if counts.joined_tracks:
        print(
            f"tracking: in {counts.joined_tracks} sequences a person changed the tracking id; the pieces were joined"
        )
    if counts.cut_frames:
        print(f"padding: {counts.cut_frames} empty frames before and after the motions were cut")
    sizes = [count for count in counts.per_class.values() if count]
    print(f"classes: {len(sizes)} of {len(counts.per_class)} occur, {min(sizes)} to {max(sizes)} sequences each")
    few = [name for name, count in counts.per_class.items() if count == 1]
    if few:
        print(f"warning: only one sequence of {', '.join(few[:5])}{' and others' if len(few) > 5 else ''}")
    for benchmark, split in counts.per_benchmark.items():
        rule = manifest.splits.get(benchmark)
        how = (
            ""
            if rule is None or rule.column != "fold"
            else f", {_fold_in_words(manifest.options, manifest.splits)}"
        )
        test = f"{split.test} test" if holds_out(benchmark, manifest.splits) else "nothing is held out"
        print(f"benchmark {benchmark}: {split.train} train, {test}{how}")


def _fold_in_words(options: Mapping[str, object], splits: Mapping[str, object]) -> str:
    """Say where a split by fold comes from: it is the source's own if it has a name of its own."""
    own = [name for name in splits if name != "all" and splits[name] == splits["all"]]
    if own or options.get("split") not in (None, "hash", "none"):
        return "the source's own split"
    return "every fifth by the hash of its name (--split none: all train and test)"


if __name__ == "__main__":
    run_verb(main)
