"""The suite at a quarter of the size of NTU RGB+D 60; `python tests/helpers/ntu_sized.py` is the whole."""

import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_suite_needs_little_more_memory_than_its_motions():
    command = [sys.executable, str(Path(__file__).parent / "helpers/ntu_sized.py"), "--scale", "0.25"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    motions = 25_000 * 3 * 64 * 25 * 4 / 2**30  # GiB
    assert float(re.search(r"peak ([\d.]+) GiB", out)[1]) < 0.6 + 1.5 * motions
