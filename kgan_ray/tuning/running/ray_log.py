"""Ray's own lines, kept off the terminal: they go to a file beside the sweep."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

from kgan_ray.storage import StorePath


def log_file(folder: StorePath) -> Path:
    """Where Ray's own lines go: into the sweep's folder, or beside other temporary files where that is no folder here."""
    if folder.is_local:
        return folder.local / "ray.log"
    return Path(tempfile.gettempdir()) / f"kgan_ray-{folder.name}-ray.log"


def log_ray_to(file: Path) -> None:
    """Send what Ray's own loggers and its raylet say to a file, and keep it off the terminal."""
    from ray._private.ray_logging import global_worker_stdstream_dispatcher as raylet

    file.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(file, delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("ray")
    logger.handlers = [handler]
    logger.propagate = False
    # Without this, every death of a trial's process puts a paragraph on the terminal. Ray has no option for it.
    raylet.remove_handler("ray_print_logs")
    raylet.add_handler("ray_print_logs", lambda data: logger.error("raylet: %s", " ".join(data["lines"])))
