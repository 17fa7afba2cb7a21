import json

import pytest

from kgan_ray import benchmark
from kgan_ray.settings import UserError


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["trainig"], "unknown part"), (["reading"], "--files"), (["sampling", "--device", "cuda"], "no GPU")],
)
def test_mistakes_are_told(arguments, told):
    if told == "no GPU" and __import__("torch").cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(UserError, match=told):
        benchmark.main(arguments)


@pytest.mark.slow
def test_every_part_gives_positive_figures(tmp_path, demo, monkeypatch, capsys):
    from kgan_ray.data.demo import write_demo_files

    monkeypatch.setattr(benchmark, "ROUNDS", 1)
    write_demo_files(tmp_path / "files", seed=0, num_sequences=24)
    output = tmp_path / "rows.json"
    parts = ["training", "sampling", "loading", "reading"]
    assert benchmark.main([*parts, "--files", str(tmp_path / "files"), "--output", str(output)]) == 0
    rows = {row["what"]: row["value"] for row in json.loads(output.read_text())}
    assert all(value > 0 for value in rows.values())
    assert {"training, published model", "training, literal step", "times as fast"} <= rows.keys()
    assert "GFLOP/s" in capsys.readouterr().out
