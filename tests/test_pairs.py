"""`data.bodies=2`: recordings of two persons as one skeleton, from preparation to the picture."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from helpers.recordings import moving_body, skeleton_text
from kgan_ray import evaluate, render
from kgan_ray.data.dataset import Dataset
from kgan_ray.data.motion_tables import training_motions
from kgan_ray.data.motions_file import open_motions, read_motions, write_parquet
from kgan_ray.data.prepare.ingest import ingest
from kgan_ray.data.sources.ntu_files import SkeletonFiles
from kgan_ray.data.windows import together
from kgan_ray.generate import main as generate
from kgan_ray.prepare import main as prepare
from kgan_ray.settings import DataSettings, UserError, override
from kgan_ray.skeleton import NTU25, SkeletonGraph, SkeletonLayout, pair_layout
from kgan_ray.train import main as train
from kgan_ray.training.checkpoint import CheckpointStore
from kgan_ray.training.gan import GAN

NUM_FRAMES = 20
ALONE, PUNCH, HUG = "A001", "A050", "A055"


def name(number, action):
    return f"S001C{1 + number % 3:03}P{1 + number % 4:03}R{1 + number // 4:03}{action}"


def write(folder, action, number, seen_second=range(NUM_FRAMES)):
    """A recording whose first person moves more, and whose second one is seen in some frames only."""
    first = moving_body(NUM_FRAMES, seed=number, size=0.2)
    second = moving_body(NUM_FRAMES, seed=1000 + number, size=0.05) + np.float32([1, 0, 0])
    frames = [
        [("1", first[frame]), *([("2", second[frame])] if frame in seen_second else [])]
        for frame in range(NUM_FRAMES)
    ]
    (folder / f"{name(number, action)}.skeleton").write_text(skeleton_text(frames), newline="")
    return first, second


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Eight recordings of one person, of which one shows a stray second; eight of each of two actions of two persons.

    In one of these the second person is never seen; in another from frame 5 to 14, without frame 9.
    """
    folder = tmp_path_factory.mktemp("pairs") / "files"
    folder.mkdir()
    for number in range(8):
        write(folder, ALONE, number, range(NUM_FRAMES if number == 3 else 0))
        write(folder, PUNCH, number, range(0 if number == 2 else NUM_FRAMES))
        write(folder, HUG, number, set(range(5, 15)) - {9} if number == 6 else range(NUM_FRAMES))
    return folder


@pytest.fixture(scope="module")
def dataset(files):
    return ingest([SkeletonFiles(files)], files.parent / "data")[0]


def view_of(dataset, **changes):
    return dataset.view(DataSettings(**{"benchmark": "xsub", "frames": 16, "bodies": 2} | changes))


def test_two_bodies_stand_side_by_side_from_the_first_frame_that_shows_both_to_the_last():
    first = np.array([1, 2, 3, 4, 5, 0], np.float32)[:, None, None]
    second = np.array([0, 7, 0, 8, 9, 6], np.float32)[:, None, None]
    assert together([first, second]).squeeze(2).tolist() == [[2, 7], [0, 0], [4, 8], [5, 9]]
    assert together([first, 0 * first]).shape == (0, 2, 1)
    assert together([first]) is first


def test_the_levels_of_a_pair_are_those_of_both_persons():
    one, two = SkeletonGraph(NTU25), SkeletonGraph(pair_layout(NTU25))
    assert [level.num_joints for level in two.levels] == [50, 22, 10, 1]
    for mine, theirs in zip(one.levels[:3], two.levels[:3], strict=True):
        size, finer = mine.num_joints, max(mine.keep) + 1
        kept = np.array(theirs.keep).reshape(2, size)
        assert kept[0].tolist() == list(mine.keep)
        (shift,) = set((kept[1] - kept[0]).tolist())
        assert shift >= finer - 1
        both = {*mine.edges, *((a + size, b + size) for a, b in mine.edges), (mine.root, mine.root + size)}
        assert {tuple(sorted(edge)) for edge in theirs.edges} == {tuple(sorted(edge)) for edge in both}


def test_a_layout_of_one_body_is_written_as_it_always_was():
    assert "bodies" not in NTU25.model_dump_json()  # the hashes of datasets are made of it
    pair = pair_layout(NTU25)
    assert SkeletonLayout.model_validate_json(pair.model_dump_json()) == pair
    assert pair.joints[3] == "first_head"
    assert pair.joints[28] == "second_head"


def test_the_classes_of_two_persons_are_those_in_which_most_recordings_show_two(dataset):
    pairs = dataset.manifest.pairs
    assert pairs.labels == (49, 54)
    assert pairs.dropped == 1
    spec = view_of(dataset).spec
    assert spec.class_names == ("punch or slap", "hugging")
    assert spec.layout == pair_layout(NTU25)
    assert dataset.view(DataSettings(benchmark="xsub")).spec.layout == NTU25


@pytest.mark.parametrize("centre", ["none", "first", "frame"])
def test_the_geometry_of_a_pair_is_kept(dataset, files, centre, tmp_path):
    """Both are moved by the first person's root, so that the way from one to the other is that of the recording."""
    first, second = write(tmp_path, HUG, 1)
    row = pq.read_table(f"{dataset.path}/motions", partitioning=None)["name"].to_pylist().index(name(1, HUG))
    view = view_of(dataset, centre=centre)
    split = "train" if row in view.rows("train") else "test"
    place = view.rows(split).tolist().index(row)
    motion = view.spec.to_metres(view.load(split).motions[place]).numpy().transpose(1, 2, 0)  # (T, 50, 3)
    inside = ((motion > view.spec.value_range[0] + 1e-3) & (motion < view.spec.value_range[1] - 1e-3)).all(axis=2)
    expected = (second - first)[:16]
    both = inside[:, :25] & inside[:, 25:]
    assert both.mean() > 0.8
    assert np.abs((motion[:, 25:] - motion[:, :25]) - expected)[both].max() < 1e-4
    if centre == "frame":
        assert np.abs(motion[:, 20]).max() < 1e-5


def test_rows_labels_and_sizes_are_those_of_pairs(dataset):
    table = pq.read_table(f"{dataset.path}/motions", partitioning=None).to_pylist()
    view = view_of(dataset, benchmark="all", frames=16)
    rows = view.rows("train")
    assert len(rows) == 15
    assert name(2, PUNCH) not in {table[row]["name"] for row in rows}
    assert [(49, 54)[label] for label in view.labels("train")] == [table[row]["label"] for row in rows]
    assert view.load("train").labels.tolist() == view.labels("train").tolist()
    assert view.load("train").motions.shape == (15, 3, 16, 50)
    assert view.bytes_of("train") == view.load("train").motions.nbytes
    (partly,) = (row for row in rows if table[row]["name"] == name(6, HUG))
    assert table[partly]["pair_frames"] == 10
    assert view.lengths(np.array([partly])).tolist() == [16]


@pytest.mark.parametrize("window", ["first", "resample", "random"])
def test_batches_of_pairs_do_not_depend_on_who_reads(dataset, window):
    view = view_of(dataset, window=window)
    motions, labels = view.batches(batch_size=4, seed=0).batch(3)
    assert motions.shape == (4, 3, 16, 50)
    halves = [view.batches(batch_size=4, seed=0, rank=rank, world_size=2).batch(3) for rank in range(2)]
    assert torch.equal(torch.cat([half[0] for half in halves]), motions)
    assert torch.equal(torch.cat([half[1] for half in halves]), labels)
    table = training_motions(
        pq.read_table(f"{dataset.path}/motions", partitioning=None),
        id_columns=dataset.id_columns,
        benchmark="xsub",
        splits=dataset.manifest.splits,
        pair_labels=dataset.pair_labels(2),
        spec=view.spec,
        window=window,
    )
    made = np.stack(table["motion"].to_pylist()).reshape(-1, *view.spec.shape)
    assert np.array_equal(made, view.load("train").motions.numpy())


def test_prepare_says_how_many_pairs_there_are(files, tmp_path, capsys):
    prepare([str(files), "--output", str(tmp_path / "data")])
    expected = "with data.bodies=2 both, of 2 classes: punch or slap to hugging (less 1 with one body)"
    assert expected in capsys.readouterr().out


def test_a_generator_of_pairs_writes_two_bodies_and_draws_them(dataset, tiny, tmp_path):
    settings = override(tiny, {"data.path": dataset.path, "data.bodies": 2, "data.benchmark": "xsub"})
    gan = GAN(settings, dataset.view(settings.data).spec)
    assert gan.generator.motion_shape == (3, 16, 50)
    gan.step(*view_of(dataset).batches(batch_size=8, seed=0).batch(0))
    motions = gan.spec.to_metres(gan.sample(torch.tensor([0, 1, 1]), seed=0)).numpy()
    write_parquet(tmp_path / "pairs.parquet", motions, [0, 1, 1], gan.spec.layout)
    rows = pq.read_table(tmp_path / "pairs.parquet").to_pylist()
    assert {row["num_bodies"] for row in rows} == {2}
    assert {len(row[column]) for row in rows for column in ("motion", "motion_second")} == {16 * 25 * 3}
    again = open_motions(tmp_path / "pairs.parquet")
    assert np.array_equal(np.stack(again.motions), motions)
    assert again.layout == gan.spec.layout
    scaled = read_motions(tmp_path / "pairs.parquet", None, gan.spec).motions
    np.testing.assert_allclose(gan.spec.to_metres(scaled).numpy(), motions, atol=1e-5)

    store = CheckpointStore(str(tmp_path / "run/checkpoints"))
    store.save(gan, {"metrics": {}, "dataset": dataset.hash})
    np.save(tmp_path / "pairs.npy", motions)
    recording = dataset.manifest.sources[0].location + f"/{name(1, HUG)}.skeleton"
    for place in (str(tmp_path / "run"), str(tmp_path / "pairs.parquet"), str(tmp_path / "pairs.npy")):
        render.main([place, "--output", str(tmp_path / "a.png")])
    for place in (dataset.path, recording):
        render.main([place, "--bodies", "2", "--output", str(tmp_path / "a.png")])
    assert Image.open(tmp_path / "a.png").height > 0

    generated = tmp_path / "hugs.parquet"  # of the classes under NTU's numbers
    generate([str(tmp_path / "run"), "--classes", HUG, "--count", "3", "--output", str(generated)])
    assert open_motions(generated).labels == [1, 1, 1]
    render.main([dataset.path, "--bodies", "2", "--classes", PUNCH, "--output", str(tmp_path / "a.png")])
    with pytest.raises(UserError, match=f"--classes {ALONE}: unknown class.*and A050, A055$"):
        generate([str(tmp_path / "run"), "--classes", ALONE, "--output", str(generated)])


def test_a_pair_is_drawn_as_two_figures_that_no_bone_joins(tmp_path):
    from kgan_ray.visual.stick import contact_sheet

    person = moving_body(1, seed=0, size=0.0).transpose(2, 0, 1)
    pair = np.concatenate([person, person + np.float32([6, 0, 0])[:, None, None]], axis=2)
    contact_sheet([("", pair)], pair_layout(NTU25), tmp_path / "pair.png", num_poses=1, cell=200)
    ink = (np.asarray(Image.open(tmp_path / "pair.png").convert("L"))[:-2] < 200).any(axis=0)
    columns = np.flatnonzero(ink)
    assert np.diff(columns).max() > 60  # the white between the two


@pytest.fixture
def alone(tmp_path):
    """A dataset in which every recording shows one person."""
    (tmp_path / "files").mkdir()
    for number in range(8):
        write(tmp_path / "files", ALONE, number, range(0))
    return ingest([SkeletonFiles(tmp_path / "files")], tmp_path / "data")[0]


def test_what_has_no_pairs_is_told_in_a_line(alone, dataset, tmp_path):
    with pytest.raises(
        UserError, match=r"data.bodies=2: .* has no class of which most recordings show two bodies"
    ):
        view_of(alone)
    with pytest.raises(UserError, match=r"benchmark=xset: .* these work: xsub, xview, all"):
        view_of(dataset, benchmark="xset")
    with pytest.raises(UserError, match=r"data\.bodies.*1.*2"):
        train(["--data", dataset.path, "--set", "data.bodies=3", "--dry-run"])
    manifest = json.loads((tmp_path / "data/manifest.json").read_text())
    del manifest["pairs"]  # as it was before there were any
    (tmp_path / "data/manifest.json").write_text(json.dumps(manifest))
    before = Dataset.open(tmp_path / "data")
    assert before.view(DataSettings(benchmark="xsub", frames=16)).load("train").motions.shape[3] == 25
    with pytest.raises(UserError, match=r"data.bodies=2: .* prepare it again with --force"):
        view_of(before)
    with pytest.raises(UserError, match="never shows two bodies together"):
        render.main(
            [
                str(tmp_path / f"files/{name(0, ALONE)}.skeleton"),
                "--bodies",
                "2",
                "--output",
                str(tmp_path / "a.png"),
            ]
        )


def test_one_body_and_two_are_not_mixed(dataset, tiny, tmp_path):
    one = override(tiny, {"data.path": dataset.path, "data.benchmark": "xsub"})
    two = override(one, {"data.bodies": 2})
    for settings in (one, two):
        gan = GAN(settings, dataset.view(settings.data).spec)
        store = CheckpointStore(str(tmp_path / f"bodies-{settings.data.bodies}/checkpoints"))
        store.save(gan, {"metrics": {}, "dataset": dataset.hash})
    pictures = [str(tmp_path / "bodies-1"), str(tmp_path / "bodies-2"), "--output", str(tmp_path / "a.png")]
    with pytest.raises(UserError, match="its skeleton ntu25x2 is not ntu25"):
        render.main(pictures)
    write_parquet(tmp_path / "one.parquet", np.zeros((2, 3, 16, 25), np.float32), [0, 1], NTU25)
    with pytest.raises(UserError, match="expected 2 bodies in every row; the column motion_second lacks some"):
        read_motions(tmp_path / "one.parquet", None, dataset.view(two.data).spec)
    with pytest.raises(UserError, match=r"layout ntu25; .* has ntu25x2"):
        evaluate.main([str(tmp_path / "bodies-1"), "--set", "data.bodies=2", "--num-motions", "8"])
