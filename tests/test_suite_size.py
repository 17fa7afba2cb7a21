"""The suite at the size of NTU RGB+D 60."""

import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_suite_at_the_size_of_ntu_60_stays_under_three_gibibytes():
    command = [sys.executable, str(Path(__file__).parent / "ntu_sized.py")]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    print(out)  # the times: five minutes in all on two free cores
    assert float(re.search(r"peak ([\d.]+) GiB", out)[1]) < 3
