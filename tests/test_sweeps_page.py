"""What the page on sweeps shows in Python runs as it stands, but for the size of the training."""

import os
import re
import subprocess
import sys

import pytest

from helpers.commands import ROOT
from kgan_ray.settings import flatten


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_example_in_python_asks_its_question_and_prints_the_verdict(tiny, tmp_path):
    (example,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "sweeps.md").read_text(encoding="utf-8"), re.DOTALL
    )
    tiny_example = example.replace('{"training.steps": 300}', repr(flatten(tiny))).replace(
        '"seeds": 3', '"seeds": 2'
    )
    assert "seeds': 2" in tiny_example.replace('"', "'")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, "-c", tiny_example], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert re.search(r"^max (is|cannot)", ran.stdout, re.MULTILINE), ran.stdout
    assert (tmp_path / "results/pooling/report/report.html").exists()
