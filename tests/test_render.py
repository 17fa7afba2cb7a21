import numpy as np
import pytest
from PIL import Image

from kgan_ray.data.motions_file import write_parquet
from kgan_ray.data.synthetic import synthesise
from kgan_ray.render import main
from kgan_ray.settings import UserError
from kgan_ray.skeleton import NTU25
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


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["nowhere", "--output", "x.png"], "no checkpoint here"),
        (["nowhere.parquet", "--output", "x.png"], "no such file"),
        (["{demo}", "--output", "x.bmp"], "accepted are .png, .gif, .mp4"),
        (["{demo}", "--output", "x.png", "--count", "0"], "at least 1"),
        (["{demo}", "--output", "x.png", "--classes", "wavng"], "Did you mean waving?"),
    ],
)
def test_mistakes_are_told(demo, tmp_path, monkeypatch, options, told):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        main([option.format(demo=demo.path) for option in options])
    assert told in str(error.value)
    assert not list(tmp_path.iterdir())
