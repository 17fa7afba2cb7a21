"""Draw a sweep's report as docs/report.png: python tests/helpers/report_picture.py results/disc [OUTPUT].

It needs Chromium, and writes the report of the sweep's folder anew before.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from kgan_ray.storage import StorePath
from kgan_ray.tuning.report.files import report_sweep

SIZE = (1000, 1250)  # pixels: the answer, the table and the first chart
PICTURE = Path(__file__).parents[2] / "docs" / "report.png"


def draw(folder: Path, picture: Path) -> None:
    """Write the report of the sweep in `folder`, and a picture of its first page."""
    with tempfile.TemporaryDirectory() as place:
        report_sweep(folder.name, StorePath(folder.parent), place, log=False)
        command = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += ["--window-size={},{}".format(*SIZE), "--virtual-time-budget=10000"]
        command += [f"--screenshot={picture.resolve()}", f"file://{place}/report.html"]
        subprocess.run(command, check=True, timeout=300, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else PICTURE)
