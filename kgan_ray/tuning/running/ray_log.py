"""Ray's own lines, kept off the terminal: they go to a file beside the sweep."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

from kgan_ray.cluster import RAYLET
from kgan_ray.storage import StorePath


def log_file(folder: StorePath) -> Path:
    """Where Ray's own lines go: into the sweep's folder, or beside other temporary files where that is no folder here."""
    if folder.is_local:
        return folder.local / "ray.log"
    return Path(tempfile.gettempdir()) / f"kgan_ray-{folder.name}-ray.log"


def log_ray_to(file: Path) -> None:
    """Send what Ray's own loggers and its raylet say to a file, and keep it off the terminal."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(file, delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("ray")
    logger.handlers = [handler]
    logger.propagate = False
    logging.getLogger(RAYLET).setLevel(logging.ERROR)
