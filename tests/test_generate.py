import re

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from helpers.commands import ROOT
from kgan_ray.classes import class_numbers
from kgan_ray.data.motions_file import open_motions
from kgan_ray.generate import main
from kgan_ray.settings import UserError
from kgan_ray.skeleton import LAYOUTS, NTU25, MotionSpec
from kgan_ray.training.checkpoint import CheckpointStore
from kgan_ray.training.gan import GAN


@pytest.fixture(scope="module")
def checkpoint(tiny, demo, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    gan = GAN(tiny, demo.view(tiny.data).spec)
    random = torch.Generator().manual_seed(0)
    for _ in range(2):  # so that running statistics are those of some training
        gan.step(torch.rand(8, *gan.spec.shape, generator=random) * 2 - 1, torch.arange(8))
    CheckpointStore(str(folder / "checkpoints")).save(gan, {"metrics": {}, "dataset": demo.hash})
    return str(folder)


def generated(checkpoint, path, *options):
    assert main([checkpoint, "--output", str(path), *options]) == 0
    return np.load(path)


def test_parquet_holds_the_wanted_classes_in_metres(checkpoint, demo, tiny, tmp_path):
    main([checkpoint, "--classes", "waving", "3", "--count", "2", "--output", str(tmp_path / "motions.parquet")])
    written = open_motions(tmp_path / "motions.parquet")
    assert written.labels == [demo.class_names.index("waving")] * 2 + [3, 3]
    assert written.layout.name == "ntu25"
    assert {motion.shape for motion in written.motions} == {(3, 16, 25)}
    low, high = demo.view(tiny.data).spec.value_range
    assert all(low - 1e-4 <= motion.min() and motion.max() <= high + 1e-4 for motion in written.motions)
    columns = pq.read_table(tmp_path / "motions.parquet", partitioning=None).column_names
    assert {"name", "label", "num_frames", "motion"} <= set(columns)


def test_the_same_seed_gives_the_same_motions_at_any_batch_size(checkpoint, tmp_path):
    fixed = ("--count", "12")
    first = generated(checkpoint, tmp_path / "a.npy", *fixed)
    other_batches = generated(checkpoint, tmp_path / "b.npy", *fixed, "--batch-size", "64")
    np.testing.assert_allclose(other_batches, first, rtol=1e-4, atol=1e-5)
    assert not np.array_equal(generated(checkpoint, tmp_path / "c.npy", *fixed, "--seed", "1"), first)


@pytest.mark.parametrize("mode", ["global", "class"])
def test_truncation_draws_motions_together(checkpoint, tmp_path, mode):
    fixed = ("--classes", "0", "--count", "64")
    free = generated(checkpoint, tmp_path / "free.npy", *fixed)
    close = generated(
        checkpoint, tmp_path / "close.npy", *fixed, "--truncation", "0.05", "--truncation-mode", mode
    )
    assert close.std(axis=0).mean() < free.std(axis=0).mean()


def test_the_published_form_is_scaled_and_has_labels_as_text(checkpoint, tmp_path):
    motions = generated(checkpoint, tmp_path / "gen.npy", "--classes", "2", "--count", "3", "--published")
    assert np.abs(motions).max() <= 1.0
    assert (tmp_path / "gen_labels.txt").read_text().split() == ["2", "2", "2"]


def test_exported_weights_come_back_as_the_same_generator(checkpoint, demo, tiny, tmp_path):
    published = tmp_path / "generator.pth"
    assert main([checkpoint, "--export-published", str(published)]) == 0
    same = ["--set=data.frames=16", "--set=model.width=0.0625", "--set=model.latent_dim=16", "--preset=demo"]
    fixed = ("--count", "2")
    again = generated(str(published), tmp_path / "b.npy", *same, "--data", demo.path, *fixed)
    np.testing.assert_allclose(again, generated(checkpoint, tmp_path / "a.npy", *fixed), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "nothing to do"),
        (["--output", "x.txt"], "ends in .parquet or .npy"),
        (["--output", "x.parquet", "--published"], "--published"),
        (["--output", "x.npy", "--count", "0"], "at least 1"),
        (["--output", "x.npy", "--truncation", "1.5"], "--truncation"),
        (["--output", "x.npy", "--classes", "wavin"], "Did you mean waving?"),
        (["--output", "x.npy", "--classes", "12"], "Accepted are 0 to 11"),
    ],
)
def test_mistakes_are_told(checkpoint, tmp_path, monkeypatch, options, told):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        main([checkpoint, *options])
    assert told in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_pickle_in_place_of_weights_is_refused_and_not_run(demo, tmp_path):
    mark = tmp_path / "mark"

    class Payload:
        def __reduce__(self):
            return open, (str(mark), "w")

    torch.save({"a": Payload()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="not weights alone"):
        main(
            [
                str(tmp_path / "evil.pth"),
                "--data",
                demo.path,
                "--preset",
                "demo",
                "--output",
                str(tmp_path / "x.npy"),
            ]
        )
    assert not mark.exists()


def test_weights_of_another_generator_are_refused(checkpoint, demo, tmp_path):
    main([checkpoint, "--export-published", str(tmp_path / "generator.pth")])
    with pytest.raises(UserError, match="another model"):
        main([str(tmp_path / "generator.pth"), "--data", demo.path, "--preset", "demo", "--output", "x.npy"])


def test_class_numbers_take_names_and_numbers():
    assert class_numbers(["b", "0"], classes("a", "b")) == [1, 0]
    assert class_numbers(None, classes("a", "b")) == [0, 1]
    assert class_numbers(["b,0", "A002"], classes("a", "b")) == [1, 0, 1]
    assert class_numbers(["a, b"], classes("a, b", "b")) == [0]


def test_a_part_of_the_classes_keeps_ntus_numbers():
    pairs = classes("punch or slap", "kicking", "hit with object", labels=(49, 50, 105))
    assert class_numbers(["A050", "A106", "1", "kicking"], pairs) == [0, 2, 1, 1]
    for word in ("A001", "A003", "3", "49"):
        with pytest.raises(UserError, match=f"--classes {word}: unknown class.*0 to 2.*and A050, A051, A106$"):
            class_numbers([word], pairs)


def classes(*names, labels=None):
    return MotionSpec(
        layout=NTU25, coordinates=3, frames=16, class_names=names, value_range=(-1, 1), class_labels=labels
    )


def test_what_no_class_is_called_is_refused_with_the_ways_to_name_one():
    with pytest.raises(
        UserError, match=r"--classes A003: unknown class.*0 to 1, names such as 'a', and A001 to A002"
    ):
        class_numbers(["A003"], classes("a", "b"))


@pytest.mark.parametrize("option", [["--preset", "demo"], ["--set", "seed=3"], ["--data", "somewhere"]])
def test_settings_beside_a_checkpoint_are_refused_for_it_brings_its_own(option, checkpoint, tmp_path):
    with pytest.raises(UserError, match="a checkpoint brings its own settings"):
        main([checkpoint, "--output", str(tmp_path / "x.npy"), *option])
    assert not list(tmp_path.iterdir())


def test_a_dry_run_prints_the_checkpoints_own_settings_and_writes_nothing(checkpoint, tiny, tmp_path, capsys):
    assert main([checkpoint, "--output", str(tmp_path / "x.npy"), "--dry-run"]) == 0
    assert f"data.frames={tiny.data.frames}" in capsys.readouterr().out.splitlines()
    assert not list(tmp_path.iterdir())


def snippet(start):
    """Return the Python of docs/motions.md that begins with this line."""
    blocks = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "motions.md").read_text(encoding="utf-8"), re.DOTALL
    )
    (code,) = [block for block in blocks if block.startswith(start)]
    return code


def test_the_page_on_motions_reads_what_was_generated(checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main([checkpoint, "--classes", "waving", "kicking", "--output", "motions.npy"])
    exec(snippet("import numpy"), {})
    assert "(10, 3, 16, 25)" in capsys.readouterr().out


def test_the_page_on_motions_brings_one_into_blender(checkpoint, tmp_path):
    bpy = pytest.importorskip("bpy", reason="needs Blender as a Python module")
    main([checkpoint, "--classes", "waving", "--output", str(tmp_path / "motions.npy")])
    (tmp_path / "skeleton.json").write_text(LAYOUTS["ntu25"].model_dump_json())
    exec(snippet("import json").replace("/path/to/the/folder", str(tmp_path)), {})
    x, _, y = np.load(tmp_path / "motions.npy")[0, [0, 2, 1], 15, LAYOUTS["ntu25"].joints.index("head")]
    bpy.context.scene.frame_set(16)
    assert tuple(bpy.data.objects["head"].matrix_world.translation)[::2] == pytest.approx((-x, y), abs=1e-5)
