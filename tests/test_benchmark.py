import json
import re
from pathlib import Path

import pytest
import torch

from helpers.networks import batch, motion_spec, narrow
from kgan_ray import benchmark
from kgan_ray.benchmarks.rows import Row, by_name
from kgan_ray.benchmarks.scaling import Scaling, Traffic
from kgan_ray.benchmarks.steps import twice_differentiated_step
from kgan_ray.benchmarks.sweep import estimate_sweep
from kgan_ray.settings import UserError
from kgan_ray.training.gan import GAN


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["trainig"], "unknown part"),
        (["reading"], "--files"),
        (["sampling", "--device", "cuda"], "no GPU"),
        (["sampling", "--device", "tpu"], "--device tpu: accepted are auto, cpu, cuda"),
        (["--space", "no.yaml"], "no.yaml"),
        (["--space", "search_spaces/smoke.yaml", "--workers", "0"], "--workers 0: at least 1"),
    ],
)
def test_mistakes_are_told(arguments, told):
    if told == "no GPU" and __import__("torch").cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(UserError, match=told):
        benchmark.main(arguments)


@pytest.mark.parametrize("option", ["--output", "--figure"])
def test_a_place_that_cannot_be_written_is_told(option, tmp_path, monkeypatch):
    measured = Scaling({32: 0.4, 16: 0.2}, together=0.25, all_reduce=0.01, traffic=Traffic(1.0, 1e6))
    monkeypatch.setattr("kgan_ray.benchmarks.scaling.measure", lambda device: measured)
    (tmp_path / "file").write_text("")
    place = tmp_path / "file" / "figures"
    with pytest.raises(UserError, match=f"{option} {place}: cannot be written"):
        benchmark.main(["workers", option, str(place)])


@pytest.mark.slow
def test_every_part_gives_positive_figures(tmp_path, demo, monkeypatch, capsys):
    from kgan_ray.data.sources.demo import write_demo_files

    for module in ("parts", "steps"):
        monkeypatch.setattr(f"kgan_ray.benchmarks.{module}.ROUNDS", 1)
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


def test_the_table_names_a_unit_and_a_script_reads_plain_ones():
    rows = [Row("sampling", 1234.5, "motions/s"), Row("loading: share of a step", 3.0, "%", "loader_share", 0.01)]
    assert re.fullmatch(r"sampling +1234 motions/s", rows[0].line())
    assert by_name(rows) == {"loader_share": 0.03}


def test_help_names_what_is_measured_by_default(capsys, monkeypatch):
    measured = []
    monkeypatch.setattr("kgan_ray.benchmarks.parts.run_benchmark", lambda parts, **_: measured.extend(parts) or [])
    assert benchmark.main([]) == 0
    with pytest.raises(SystemExit):
        benchmark.main(["--help"])
    assert f"(default: {' '.join(measured)})" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("settings", [{}, {"techniques.pooling": "max"}])
def test_both_ways_of_differentiating_move_the_discriminator_alike(settings):
    written, twice = (GAN(narrow(settings), motion_spec()) for _ in range(2))
    motions, labels = batch(written.spec)
    z = torch.randn(len(motions), written.settings.model.latent_dim)
    written.discriminator_step(motions, labels, z)
    twice_differentiated_step(twice, motions, labels, z)
    for (name, ours), theirs in zip(
        written.discriminator.named_parameters(), twice.discriminator.parameters(), strict=True
    ):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.slow
def test_a_sweep_is_estimated_here_and_on_more_workers(demo):
    space = str(Path(__file__).parents[1] / "search_spaces/smoke.yaml")
    lines = estimate_sweep(space, demo.path, workers=4)
    assert re.fullmatch(r"\d+ explored and \d+ confirming trials of \d+ steps, some \d+ s each", lines[0])
    here, there = (_seconds(line) for line in lines[1:])
    assert there <= here
    assert " on 4 such workers" in " " + lines[2]


def _seconds(line: str) -> int:
    parts = [int(part) for part in line.rsplit(" ", 1)[1].split(":")]
    return sum(part * 60**power for power, part in enumerate(reversed(parts)))
