"""Sources with one file a recording, in a folder or a zip."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import ClassVar

from kgan_ray.data.sources.archive import Place, list_files, read_file
from kgan_ray.data.sources.source import Item, Source


class FileSource(Source):
    """The files of one suffix in a folder, in a zip, or one file by itself."""

    suffix: ClassVar[str]

    def __init__(self, path: Path) -> None:
        self.location = str(path.absolute())

    @property
    def path(self) -> Path:
        return Path(self.location)

    @property
    def is_folder(self) -> bool:
        return self.path.is_dir()

    @functools.cached_property
    def listing(self) -> list[tuple[str, Place]]:
        """List (name, place) of every file; a single file lies at its own path."""
        return [(self.path.name, "")] if self.path.suffix == self.suffix else list_files(self.path)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name != "listing"}  # long; workers need none

    def items(self) -> list[Item]:
        end = -len(self.suffix)
        return [
            Item(name[name.rfind("/") + 1 : end], place)
            for name, place in self.listing
            if name.endswith(self.suffix)
        ]

    def place_of(self, item: Item) -> Place:
        """Return where an item's file lies; `item.place` holds more where a name alone does not say all of a recording."""
        place: Place = item.place
        return place

    def fetch(self, item: Item) -> bytes:
        return read_file(self.path, self.place_of(item))

    def files(self) -> list[Path]:
        # Only in a zip is a place more than a path.
        path = self.path
        return [path / str(self.place_of(item)) for item in self.items()] if self.is_folder else [path]
