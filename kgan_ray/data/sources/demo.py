"""The demo data set as a source: motion synthesised on the spot, nothing to download."""

from __future__ import annotations

import hashlib
from pathlib import Path

from kgan_ray.data.recording import Recording
from kgan_ray.data.sources import ntu
from kgan_ray.data.sources.ntu_files import CLASS_NAMES_FILE
from kgan_ray.data.sources.source import Item, Source, Traits
from kgan_ray.data.synthetic.recordings import ACTIONS, synthesise, write_skeleton_file
from kgan_ray.settings import UserError
from kgan_ray.skeleton import NTU25


class DemoSource(Source):
    """`num_sequences` synthetic recordings; seed and index fix each of them."""

    kind = "demo"

    def __init__(self, seed: int, num_sequences: int) -> None:
        self.seed = seed
        self.num_sequences = num_sequences
        self.location = f"synthetic motion, {num_sequences} sequences, seed {seed}"
        self.traits = Traits(
            layout=NTU25, coordinates=3, class_names=ACTIONS, splits=ntu.SPLITS, known_classes=True
        )

    @property
    def description(self) -> str:
        return "synthetic motion, 25 joints as ntu25"

    def items(self) -> list[Item]:
        return [Item(f"demo-{index:06}", index) for index in range(self.num_sequences)]

    def fetch(self, item: Item) -> bytes:
        return b""

    def parse(self, item: Item, data: bytes) -> Recording:
        return synthesise(int(item.place), self.seed)

    def files(self) -> list[Path]:
        return []

    def fingerprint(self) -> str:
        return hashlib.sha256(self.location.encode()).hexdigest()

    def sha256(self) -> str:
        return self.fingerprint()


def write_demo_files(folder: Path, *, seed: int, num_sequences: int) -> None:
    """Write synthetic motion as genuine `.skeleton` files, and the names of its classes beside them.

    Raises UserError if the folder holds anything else or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        wanted = {f"{synthesise(index, seed).name}.skeleton": index for index in range(num_sequences)}
        others = {file.name for file in folder.iterdir()} - wanted.keys() - {CLASS_NAMES_FILE}
        if others:
            raise UserError(
                f"--skeleton-files {folder}: holds other files, such as {min(others)}; choose a new folder"
            )
        for name, index in wanted.items():
            if not (folder / name).exists():
                write_skeleton_file(synthesise(index, seed), folder / name)
        (folder / CLASS_NAMES_FILE).write_text("\n".join(ACTIONS) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"--skeleton-files {folder}: cannot be written ({error.strerror})") from None
