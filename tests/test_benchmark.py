import itertools
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from helpers.networks import batch, motion_spec, narrow
from helpers.pretended_gpu import PRETENDED, captured, pretended_gpu
from kgan_ray import benchmark
from kgan_ray.benchmarks.gpu import Extent, measure_gpu, trials_at_once
from kgan_ray.benchmarks.presets import measure_presets
from kgan_ray.benchmarks.rows import Row, by_name
from kgan_ray.benchmarks.scaling import Scaling, Traffic
from kgan_ray.benchmarks.steps import literal_step, random_batch, twice_differentiated_step
from kgan_ray.benchmarks.sweep import estimate_sweep
from kgan_ray.benchmarks.timing import ntu60_gan
from kgan_ray.settings import UserError
from kgan_ray.training.gan import GAN


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["trainig"], "unknown part"),
        (["reading"], "--files"),
        (["sampling", "--device", "cuda"], "no GPU"),
        (["gpu"], "gpu: needs a GPU that PyTorch can use; none is found here"),
        (["sampling", "--device", "tpu"], "--device tpu: accepted are auto, cpu, cuda"),
        (["--space", "no.yaml"], "no.yaml"),
        (["--preset", "demo"], "--preset and --set belong to --space"),
        (["--space", "search_spaces/smoke.yaml", "--workers", "0"], "--workers 0: at least 1"),
    ],
)
def test_mistakes_are_told(arguments, told):
    if "GPU" in told and torch.cuda.is_available():
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
    named = {"training, published model", "training, literal step", "times as fast", "training, bfloat16"}
    assert named <= rows.keys()
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    named = {"steps_per_second", "gemm_gflops", "samples_per_second", "loader_share", "peak_memory_bytes"}
    assert found.keys() > named
    assert found["generator_steps_per_second"] > 0 < found["discriminator_steps_per_second"]
    assert 2e8 < found["peak_memory_bytes"] < 2e10
    assert found["loader_share"] < 1


def test_presets_are_measured_in_both_precisions_beside_their_peaks(monkeypatch):
    monkeypatch.setattr("kgan_ray.benchmarks.presets.ROUNDS", 1)
    monkeypatch.setattr("kgan_ray.benchmarks.presets.peak", lambda device, dtype: 1000.0)
    tiny = {"model.width": 0.0625, "training.batch_size": 2, "training.n_critic": 1}
    rows = {row.what: row.value for row in measure_presets("cpu", tiny)}
    for preset, precision in itertools.product(("demo", "ucla-xview", "ntu60-xsub"), ("float32", "bfloat16")):
        name = f"training, {preset}, {precision}"
        assert rows[name] > 0
        assert rows[f"{name}: of its peak"] == pytest.approx(rows[f"{name}: products"] / 10)
    demo, same, larger = (
        rows[f"training, {name}: products"] / rows[f"training, {name}"]  # GFLOP a step
        for name in ("demo, float32", "demo, bfloat16", "ntu60-xsub, float32")
    )
    assert demo == pytest.approx(same)
    assert demo < larger


TINY = Extent(
    widths=(0.0625,),
    launches=("graph", "eager"),
    precisions=("float32", "bfloat16"),
    num_trials=(2,),
    seconds=0.1,
    compared_steps=3,
    cycles=1,
    rounds=1,
)


def test_the_table_of_a_gpu_has_every_row_and_finds_no_difference(monkeypatch):
    """On the CPU, with a recording that repeats the work; trials at once, in their own processes, launch eagerly."""
    monkeypatch.setattr(GAN, "_capture", captured)
    rows = {row.name or row.what: row.value for row in measure_gpu("cpu", TINY)}
    for launch, precision in itertools.product(TINY.launches, TINY.precisions):
        assert rows[f"{launch}_{precision}_width_0.0625_steps_per_second"] > 0
        assert rows[f"times the literal step: width 0.0625, {precision}, {launch}"] > 1
    assert rows["2_trials_width_0.0625_steps_per_second"] > 0
    zero = ["graph_differs_from_eager_by", "eager_differs_from_itself_by", "checkpoint_changes_by"]
    assert [rows[name] for name in [*zero, "motions_differ_by", "losses_not_finite"]] == [0.0] * 5


def test_trials_that_a_device_cannot_hold_are_a_row_without_a_number(monkeypatch):
    rows = trials_at_once("cpu", replace(TINY, launches=("graph",), num_trials=(1,)))  # no graph on a CPU
    assert [math.isnan(row.value) for row in rows] == [True]


@pytest.mark.parametrize("launch", ["literal", "eager"])
def test_a_measured_step_mixes_no_devices(monkeypatch, launch):
    """The literal step reads its losses, as the published one does: a pretended GPU has none, so it ends there."""
    with pretended_gpu(monkeypatch):
        gan = ntu60_gan(PRETENDED, {"model.width": 0.0625})
        motions, labels = (tensor.to(PRETENDED) for tensor in random_batch("cpu"))
        if launch == "eager":
            gan.step(motions, labels)
        else:
            with pytest.raises(RuntimeError, match="cannot be called on meta tensors"):
                literal_step(gan, motions, labels)()


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
    lines = estimate_sweep(space, 4, preset="demo", overrides={"training.steps": 77}, data=demo.path)
    assert re.fullmatch(r"on \d( of \d)? CPU cores?; no GPU found", lines[0])
    assert re.fullmatch(r"\d+ explored and \d+ confirming trials of 77 steps, some \d+ s each", lines[1])
    here, there = (_seconds(line) for line in lines[2:])
    assert there <= here
    assert " on 4 such workers" in " " + lines[3]


def _seconds(line: str) -> int:
    parts = [int(part) for part in line.rsplit(" ", 1)[1].split(":")]
    return sum(part * 60**power for power, part in enumerate(reversed(parts)))
