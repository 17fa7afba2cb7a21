import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from helpers.recordings import one_body_text
from kgan_ray.data.motions_file import write_npy, write_parquet, write_published
from kgan_ray.data.synthetic.recordings import synthesise
from kgan_ray.devices import line_of_device, usable_device
from kgan_ray.model import Generator
from kgan_ray.model.variation import stochastic_variation
from kgan_ray.render import main
from kgan_ray.settings import UserError
from kgan_ray.skeleton import NTU25, SkeletonLayout
from kgan_ray.training.checkpoint import CheckpointStore
from kgan_ray.training.gan import GAN
from kgan_ray.visual.stick import animate, contact_sheet


def motion(index=0):
    return synthesise(index, 0).motion.transpose(2, 0, 1)


def ink(picture):
    return float((np.asarray(picture.convert("L")) < 200).mean())


def test_a_contact_sheet_has_a_row_a_motion_and_a_column_a_pose(tmp_path):
    contact_sheet([("a", motion(0)), ("b", motion(1))], NTU25, tmp_path / "sheet.png", num_poses=5, cell=80)
    sheet = Image.open(tmp_path / "sheet.png")
    assert sheet.height == 2 * 80
    assert 5 * 80 < sheet.width < 6 * 80
    for row in range(2):
        for column in range(5):
            left = sheet.width - (5 - column) * 80
            assert ink(sheet.crop((left, row * 80, left + 80, row * 80 + 80))) > 0.01


def test_a_figure_keeps_its_proportions(tmp_path):
    wide = motion(11)  # arm circles: about as wide as high
    contact_sheet([("", wide)], NTU25, tmp_path / "a.png", num_poses=3)
    contact_sheet([("", wide * 2)], NTU25, tmp_path / "b.png", num_poses=3)
    first, second = (np.asarray(Image.open(tmp_path / name), float) for name in ("a.png", "b.png"))
    assert np.abs(first - second).mean() < 2.0  # twice the size in metres is the same picture


def test_left_and_right_have_their_own_colours(tmp_path):
    contact_sheet([("", motion())], NTU25, tmp_path / "sheet.png", num_poses=1)
    pixels = np.asarray(Image.open(tmp_path / "sheet.png"), int)
    red, blue = pixels[..., 0] - pixels[..., 2], pixels[..., 2] - pixels[..., 0]
    assert (red > 100).sum() > 20
    assert (blue > 100).sum() > 20


def test_an_animation_shows_every_frame(tmp_path):
    animate([("a", motion()[:, :12]), ("b", motion(3)[:, :9])], NTU25, tmp_path / "two.gif", cell=60)
    film = Image.open(tmp_path / "two.gif")
    assert film.n_frames == 12
    assert film.size == (120, 60)


def test_a_dataset_is_drawn_by_class_names(demo, tmp_path, capsys):
    options = ["--classes", "waving", "0", "--count", "2", "--output", str(tmp_path / "pictures" / "x.png")]
    assert main([demo.path, *options]) == 0
    assert "4 motions" in capsys.readouterr().out
    assert ink(Image.open(tmp_path / "pictures" / "x.png")) > 0.005


def test_a_file_of_motions_is_drawn(tmp_path):
    write_parquet(tmp_path / "m.parquet", np.stack([motion()[:, :20]] * 3), [4, 4, 7], NTU25)
    assert main([str(tmp_path / "m.parquet"), "--output", str(tmp_path / "m.gif")]) == 0
    assert Image.open(tmp_path / "m.gif").n_frames > 1


def test_an_array_is_drawn_by_the_labels_beside_it(tmp_path, capsys):
    motions = np.stack([motion(index)[:, :20] for index in range(4)])
    write_npy(tmp_path / "ours.npy", motions, [3, 3, 5, 5])
    assert main([str(tmp_path / "ours.npy"), "--output", str(tmp_path / "a.png")]) == 0
    write_published(tmp_path / "published.npy", motions / 4, [3, 4, 5, 5])
    assert main([str(tmp_path / "published.npy"), "--output", str(tmp_path / "b.png")]) == 0
    np.save(tmp_path / "bodies.npy", np.stack([motions, motions], axis=4))  # as in Kinetic-GAN's train_data.npy
    assert main([str(tmp_path / "bodies.npy"), "--output", str(tmp_path / "c.png"), "--layout", "ntu25"]) == 0
    assert [line.split(": ")[1] for line in capsys.readouterr().out.splitlines()] == [
        "2 motions",
        "3 motions",
        "4 motions",
    ]


def test_recordings_are_drawn_side_by_side(tmp_path, capsys):
    files = [tmp_path / f"S001C001P001R00{n}A001.skeleton" for n in (1, 2)]
    for file, index in zip(files, (0, 12), strict=True):
        file.write_text(one_body_text(motion(index)[:, :20].transpose(1, 2, 0)))
    assert main([*map(str, files), "--output", str(tmp_path / "both.gif")]) == 0
    assert "2 motions" in capsys.readouterr().out
    assert Image.open(tmp_path / "both.gif").size == (2 * 180, 180)


def test_a_skeleton_of_ones_own_is_drawn_from_its_file(tmp_path):
    own = SkeletonLayout(name="stick", joints=("a", "b", "c"), bones=((0, 1), (1, 2)), root=1)
    write_parquet(tmp_path / "m.parquet", np.random.default_rng(0).normal(size=(2, 3, 8, 3)), [0, 1], own)
    assert main([str(tmp_path / "m.parquet"), "--output", str(tmp_path / "m.png")]) == 0


def test_the_variation_is_that_of_the_noise():
    generator = Generator(8, 3, 4, 16, 2, "ntu25", width=0.0625)
    labels = torch.tensor([0, 3])
    still = stochastic_variation(generator, labels, draws=4)
    assert still.deviation.max() < 1e-4  # the strength of the noise begins at 0
    with torch.no_grad():
        generator.st_gcn_networks[6].noise.weight.copy_(torch.tensor([0.3, 0.0, 0.0]).view(1, 3, 1, 1))
    one = stochastic_variation(generator, labels, draws=64, mask_quantile=0.8)
    slope = 1 - one.mean[:, 0].square()  # of tanh, after which a motion comes
    assert torch.allclose(one.deviation[:, 0].mean(), (0.3 * slope).mean(), rtol=0.1)
    assert one.deviation[:, 1:].max() < 1e-4
    again = stochastic_variation(generator, labels, draws=64, mask_quantile=0.8)
    assert torch.equal(one.deviation, again.deviation)


def test_the_mask_chooses_the_share_that_its_quantile_leaves():
    generator = Generator(8, 3, 4, 16, 2, "ntu25", width=0.0625)
    labels = torch.arange(4).repeat_interleave(128)
    chosen = stochastic_variation(generator, labels, draws=2, mask_quantile=0.8).chosen
    assert chosen.shape == (512, 25)
    assert chosen.mean().item() == pytest.approx(0.2, abs=1e-3)


def test_the_variation_of_a_checkpoint_is_drawn(tiny, demo, tmp_path, capsys):
    gan = GAN(tiny, demo.view(tiny.data).spec)
    CheckpointStore(str(tmp_path / "checkpoints")).save(gan, {"step": 0, "metrics": {}, "dataset": demo.hash})
    options = [
        "--variation",
        "--classes",
        "waving",
        "kicking",
        "--draws",
        "3",
        "--output",
        str(tmp_path / "v.png"),
    ]
    assert main([str(tmp_path), *options, "--device", "cpu"]) == 0
    device, told = capsys.readouterr().out.splitlines()
    assert device == line_of_device("cpu")
    assert "3 draws of the noise for each of 2 latent points" in told
    assert ink(Image.open(tmp_path / "v.png")) > 0.02


def test_checkpoints_side_by_side_name_their_device_once(tiny, demo, tmp_path, capsys):
    store = CheckpointStore(str(tmp_path / "checkpoints"))
    store.save(GAN(tiny, demo.view(tiny.data).spec), {"step": 0, "metrics": {}, "dataset": demo.hash})
    options = ["--classes", "waving", "--output", str(tmp_path / "a.png")]
    assert main([str(tmp_path), str(tmp_path / "checkpoints"), *options]) == 0
    assert capsys.readouterr().out.splitlines() == [
        line_of_device(usable_device("auto")),
        f"{tmp_path / 'a.png'}: 2 motions",
    ]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["nowhere", "--output", "x.png", "--device", "tpu"], "--device tpu: accepted are auto, cpu, cuda"),
        (["nowhere", "--output", "x.png"], "no checkpoint here"),
        (["nowhere.parquet", "--output", "x.png"], "no such file"),
        (["{demo}", "--output", "x.bmp"], "accepted are .png, .gif, .mp4"),
        (["{demo}", "--output", "x.png", "--count", "0"], "at least 1"),
        (["{demo}", "--output", "x.png", "--classes", "wavng"], "Did you mean waving?"),
        (["nowhere.npy", "--output", "x.png"], "no such file"),
        (["nowhere.skeleton", "--output", "x.png"], "no such file"),
        (["{seven}", "--output", "x.png"], "7 joints; say whose with --layout"),
        (["{seven}", "--output", "x.png", "--layout", "ntu25"], "25 joints, but"),
        (["{flat}", "--output", "x.png"], "motions are floats (N, C, T, V)"),
        (["{bare}", "--output", "x.png"], "bare.parquet: not a file of motions that `generate` wrote"),
        (["{few}", "--output", "x.png"], "few_labels.txt: 1 labels for 2 motions"),
        (["{words}", "--output", "x.png"], "words_labels.txt: not one label a line"),
        (["{cut}", "--output", "x.png"], "its header promises 4 frames and it ends in frame 1"),
        (["{seven}", "{demo}", "--output", "x.png", "--layout", "{stick}"], "its skeleton ntu25 is not stick"),
        (["{demo}", "--output", "x.gif", "--variation"], "accepted are .png"),
        (["a", "b", "--output", "x.png", "--variation"], "one checkpoint at a time"),
        (["{demo}", "--output", "x.png", "--variation", "--draws", "1"], "at least 2"),
        (["{demo}", "--output", "x.png", "--variation", "--quantile", "1.5"], "less than 1"),
    ],
)
def test_mistakes_are_told(demo, tmp_path, tmp_path_factory, monkeypatch, options, told):
    monkeypatch.chdir(tmp_path)
    held = tmp_path_factory.mktemp("held")
    files = {name: held / f"{name}.npy" for name in ("seven", "flat")}
    np.save(files["seven"], np.zeros((2, 3, 8, 7), np.float32))
    np.save(files["flat"], np.zeros((2, 3), np.float32))
    files["bare"] = held / "bare.parquet"
    pq.write_table(pa.table({"motion": [[0.0]], "label": [0]}), files["bare"])
    for name, labels in (("few", "1"), ("words", "one two")):
        files[name] = held / f"{name}.npy"
        np.save(files[name], np.zeros((2, 3, 8, 25), np.float32))
        (held / f"{name}_labels.txt").write_text(labels)
    files["cut"] = held / "S001C001P001R001A001.skeleton"
    files["cut"].write_text(one_body_text(motion()[:, :4].transpose(1, 2, 0))[:900])
    files["stick"] = held / "stick.yaml"
    bones = ", ".join(f"[{joint}, {joint + 1}]" for joint in range(6))
    files["stick"].write_text(f"name: stick\njoints: 7\nbones: [{bones}]\nroot: 0\n")
    with pytest.raises(UserError) as error:
        main([option.format(demo=demo.path, **files) for option in options])
    assert told in str(error.value)
    assert not list(tmp_path.iterdir())
