"""NTU RGB+D's `.skeleton` files, in a folder, in a zip, or one by itself."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from kgan_ray.data.recording import Recording, RejectedRecording
from kgan_ray.data.sources import ntu
from kgan_ray.data.sources.archive import read_file
from kgan_ray.data.sources.file_source import FileSource
from kgan_ray.data.sources.skeleton_file import parse_skeleton
from kgan_ray.data.sources.source import Item, Traits
from kgan_ray.settings import UserError
from kgan_ray.skeleton import NTU25

# Beside .skeleton files: names of their own for A001, A002 ...
CLASS_NAMES_FILE = "class_names.txt"


class SkeletonFiles(FileSource):
    """NTU RGB+D, or files in its format, whose names give setup, camera, subject, replication and action."""

    kind = "ntu"
    suffix = ".skeleton"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        parsed = [ntu.parse_name(item.name) for item in self.items()]
        own_names = self._own_class_names()
        last = max((name[4] for name in parsed if name), default=1)
        names = own_names or ntu.action_names(last)
        if last > len(names):
            raise UserError(f"{path}: action A{last:03} occurs, but only {len(names)} classes are known")
        self.traits = Traits(
            layout=NTU25, coordinates=3, class_names=names, splits=ntu.SPLITS, known_classes=not own_names
        )

    @property
    def description(self) -> str:
        kind = "NTU RGB+D recordings" if self.traits.known_classes else "recordings in NTU RGB+D's form"
        return f"{kind}, 25 joints as ntu25, {len(self.traits.class_names)} classes, published splits"

    def _own_class_names(self) -> tuple[str, ...]:
        for name, place in self.listing:
            if PurePosixPath(name).name == CLASS_NAMES_FILE:
                try:
                    lines = read_file(self.path, place).decode("utf-8").splitlines()
                except (UnicodeDecodeError, RejectedRecording) as error:
                    raise UserError(f"{self.path}: {name}: cannot be read ({error})") from None
                return tuple(line.strip() for line in lines if line.strip())
        return ()

    def parse(self, item: Item, data: bytes) -> Recording:
        parsed = ntu.parse_name(item.name)
        if parsed is None:
            raise RejectedRecording("its name has not the form S001C001P001R001A001")
        setup, camera, subject, replication, action = parsed
        if action < 1:
            raise RejectedRecording("its name gives action A000; actions count from A001")
        bodies = parse_skeleton(data)
        return Recording(
            name=item.name,
            label=action - 1,
            setup=setup,
            camera=camera,
            subject=subject,
            replication=replication,
            num_frames=bodies.num_frames,
            num_bodies=bodies.num_bodies,
            motion=bodies.motion,
            motion_second=bodies.motion_second,
            joined_tracks=bodies.joined_tracks,
        )
