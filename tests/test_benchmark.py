import json
import re
from pathlib import Path

import pytest

from kgan_ray import benchmark
from kgan_ray.settings import UserError


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["trainig"], "unknown part"),
        (["reading"], "--files"),
        (["sampling", "--device", "cuda"], "no GPU"),
        (["--space", "no.yaml"], "no.yaml"),
        (["--space", "search_spaces/smoke.yaml", "--workers", "0"], "--workers 0: at least 1"),
    ],
)
def test_mistakes_are_told(arguments, told):
    if told == "no GPU" and __import__("torch").cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(UserError, match=told):
        benchmark.main(arguments)


@pytest.mark.slow
def test_every_part_gives_positive_figures(tmp_path, demo, monkeypatch, capsys):
    from kgan_ray.data.sources.demo import write_demo_files

    monkeypatch.setattr(benchmark, "ROUNDS", 1)
    write_demo_files(tmp_path / "files", seed=0, num_sequences=24)
    output = tmp_path / "rows.json"
    parts = ["training", "sampling", "loading", "evaluation", "reading"]
    assert benchmark.main([*parts, "--files", str(tmp_path / "files"), "--output", str(output), "--json"]) == 0
    rows = {row["what"]: row["value"] for row in json.loads(output.read_text())}
    assert all(value > 0 for value in rows.values())
    assert {"training, published model", "training, literal step", "times as fast"} <= rows.keys()
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    named = {"steps_per_second", "gemm_gflops", "samples_per_second", "loader_share", "peak_memory_bytes"}
    assert found.keys() > named
    assert found["generator_steps_per_second"] > 0 < found["discriminator_steps_per_second"]
    assert 2e8 < found["peak_memory_bytes"] < 2e10
    assert found["loader_share"] < 1


def test_the_table_names_a_unit(monkeypatch, capsys):
    monkeypatch.setitem(benchmark.PARTS, "sampling", lambda options: [("sampling", 1234.5, "motions/s")])
    assert benchmark.main(["sampling"]) == 0
    assert re.search(r"^sampling +1234 motions/s$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.slow
def test_a_sweep_is_estimated_here_and_on_more_workers(demo):
    space = str(Path(__file__).parents[1] / "search_spaces/smoke.yaml")
    lines = benchmark.sweep_estimate(space, demo.path, workers=4)
    assert re.fullmatch(r"\d+ explored and \d+ confirming trials of \d+ steps, some \d+ s each", lines[0])
    here, there = (_seconds(line) for line in lines[1:])
    assert there <= here
    assert " on 4 such workers" in " " + lines[2]


def _seconds(line: str) -> int:
    parts = [int(part) for part in line.rsplit(" ", 1)[1].split(":")]
    return sum(part * 60**power for power, part in enumerate(reversed(parts)))
