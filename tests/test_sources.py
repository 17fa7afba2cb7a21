"""Every kind of source: what is read from it, and what is refused."""

import pickle

import numpy as np
import orjson
import pytest

from helpers.recordings import REAL_DATA, moving_body, ntu_names, write_ntu, write_ucla, zipped
from kgan_ray.data.recording import RejectedRecording
from kgan_ray.data.sources.recognise import find_sources
from kgan_ray.data.sources.source import Item
from kgan_ray.data.sources.ucla_files import UclaFiles, mend_broken_frames
from kgan_ray.named_layouts import read_layout
from kgan_ray.settings import UserError
from kgan_ray.skeleton import H36M16, NTU25, UCLA20, SkeletonLayout


def read_all(path, layout=None):
    (source,) = find_sources(str(path), layout)
    return {item.name: source.parse(item, source.fetch(item)) for item in source.items()}


def published(folder, array, labels, names=None, stem="train"):
    """Kinetic-GAN's form of a data set."""
    folder.mkdir(exist_ok=True)
    np.save(folder / f"{stem}_data.npy", array)
    with (folder / f"{stem}_label.pkl").open("wb") as file:
        pickle.dump((names, labels) if names else labels, file)
    return folder / f"{stem}_data.npy"


def test_a_folder_a_zip_and_a_file_read_alike(tmp_path):
    folder = write_ntu(tmp_path / "files", ntu_names(5))
    from_folder, from_zip = read_all(folder), read_all(zipped(folder, tmp_path / "a.zip"))
    assert sorted(from_folder) == sorted(from_zip) == sorted(ntu_names(5))
    for name, recording in from_folder.items():
        assert np.array_equal(recording.motion, from_zip[name].motion)
        assert (recording.subject, recording.camera) == (int(name[9:12]), int(name[5:8]))
    one = ntu_names(1)[0]
    assert np.array_equal(read_all(folder / f"{one}.skeleton")[one].motion, from_folder[one].motion)


def test_class_names_of_ones_own_lie_beside_the_files(tmp_path):
    folder = write_ntu(tmp_path / "files", ntu_names(8))
    (folder / "class_names.txt").write_text("hop\nskip\n")
    (source,) = find_sources(str(folder))
    assert source.traits.class_names == ("hop", "skip")
    (folder / "class_names.txt").write_text("hop\n")
    with pytest.raises(UserError, match="action A002 occurs, but only 1 classes are known"):
        find_sources(str(folder))
    (folder / "class_names.txt").write_bytes(b"\xff\xff")
    with pytest.raises(UserError, match=r"class_names\.txt: cannot be read"):
        find_sources(str(folder))


def test_a_file_of_another_name_is_set_aside(tmp_path):
    folder = write_ntu(tmp_path / "files", ["walk-1", "S001C001P001R001A000"])
    with pytest.raises(RejectedRecording, match="its name has not the form S001C001P001R001A001"):
        read_all(folder / "walk-1.skeleton")
    with pytest.raises(RejectedRecording, match="actions count from A001"):
        read_all(folder / "S001C001P001R001A000.skeleton")


def test_ucla_files(tmp_path):
    folder = write_ucla(tmp_path / "all_sqe")
    recordings = read_all(folder)
    assert len(recordings) == 20
    recording = recordings["a12_s02_e00_v03"]
    assert (recording.label, recording.subject, recording.camera, recording.replication) == (9, 2, 3, 0)
    assert recording.motion.shape == (5, 20, 3)
    assert read_all(zipped(folder, tmp_path / "a.zip")).keys() == recordings.keys()
    (source,) = find_sources(str(folder))
    assert (source.traits.layout, len(source.traits.class_names)) == (UCLA20, 10)


@pytest.mark.parametrize(
    ("name", "tree", "reason"),
    [
        ("a07_s01_e00_v01", {}, "action a07 is not one of NW-UCLA's"),
        ("a01_s01_e00_v01", {}, "not JSON with `skeletons`"),
        ("a01_s01_e00_v01", b"[[", "not JSON with `skeletons`"),
        ("a01_s01_e00_v01", [1], "not JSON with `skeletons`"),
        ("a01_s01_e00_v01", {"skeletons": [[[1, 2], [3]]]}, "not JSON with `skeletons`"),
        ("a01_s01_e00_v01", {"skeletons": []}, r"skeletons have the shape \(0,\), expected \(T, 20, 3\)"),
        ("a01_s01_e00_v01", {"skeletons": [[[1, 2, 3]] * 25]}, r"shape \(1, 25, 3\)"),
        ("a01_s01_e00_v01", {"skeletons": [[[1, 2, None]] * 20]}, "a coordinate is NaN or infinite"),
        ("a01_s01_e00_v01", b'{"skeletons": [[' + b",".join([b"[1e300,0,0]"] * 20) + b"]]}", "NaN or infinite"),
        ("a01_s01_e00_v01", {"skeletons": [[[0, 0, 0]] * 20]}, "no frame holds a body"),
        (
            "a02_s01_e00_v01",
            {"skeletons": [[[1, 2, 3]] * 20], "label": 1},
            "its label 1 is not that of its name, 2",
        ),
    ],
)
def test_a_bad_ucla_file_is_set_aside(tmp_path, name, tree, reason):
    (tmp_path / f"{name}.json").write_bytes(tree if isinstance(tree, bytes) else orjson.dumps(tree))
    with pytest.raises(RejectedRecording, match=reason) as refusal:
        read_all(tmp_path)
    assert "\n" not in str(refusal.value)


def test_half_written_frames_are_interpolated_and_absent_bodies_are_not():
    motion = np.arange(1, 7, dtype=np.float32)[:, None, None].repeat(2, 1).repeat(3, 2)  # (6, 2, 3): 1 .. 6
    broken = motion.copy()
    broken[0, 0] = 0  # half a body: no whole frame comes before
    broken[2:4, 1] = 0
    broken[2:4, 0] = 99
    broken[5] = 0  # no body
    expected = motion.copy()
    expected[0] = 2
    expected[5] = 0
    assert np.allclose(mend_broken_frames(broken), expected)
    assert mend_broken_frames(motion) is motion


def test_genuine_ucla_recordings():
    path = REAL_DATA / "nw_ucla.zip"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    source = UclaFiles(path)
    items = source.items()
    assert len(items) == 1484
    mended = next(item for item in items if item.name == "a04_s01_e01_v01")
    motion = source.parse(mended, source.fetch(mended)).motion
    assert np.abs(motion[34] - motion[33]).max() < 0.5  # as it lies in the file: several metres
    tree = orjson.loads(source.fetch(items[5]))
    assert np.array_equal(source.parse(items[5], source.fetch(items[5])).motion, np.float32(tree["skeletons"]))


def test_published_ntu_arrays(tmp_path):
    array = np.zeros((3, 3, 300, 25, 2), np.float32)
    motions = [moving_body(n, seed=n) for n in (10, 20, 300)]
    for number, motion in enumerate(motions):
        array[number, :, : len(motion), :, 0] = motion.transpose(2, 0, 1)
    array[1, :, :12, :, 1] = moving_body(12, seed=7).transpose(2, 0, 1)
    names = [f"S001C00{n}P00{n}R001A00{n}.skeleton" for n in (1, 2, 3)]
    path = published(tmp_path, array, [0, 1, 2], names)
    recordings = read_all(path)
    assert list(recordings) == [name[:20] for name in names]
    for number, recording in enumerate(recordings.values()):
        assert np.array_equal(recording.motion, motions[number])  # without the padding
        assert (recording.label, recording.camera, recording.subject) == (number, number + 1, number + 1)
    second = recordings["S001C002P002R001A002"]
    assert second.num_bodies == 2
    assert np.array_equal(second.motion_second[:12], moving_body(12, seed=7))
    assert read_all(tmp_path).keys() == recordings.keys()  # the folder stands for the arrays in it


def test_published_h36m_arrays(tmp_path):
    array = np.random.default_rng(0).normal(size=(4, 2, 50, 16)).astype(np.float32)
    path = published(tmp_path, array, np.array([0, 1, 2, 0]))
    with pytest.raises(UserError, match="nothing says whose joints these are; --layout says it: h36m16 would fit"):
        find_sources(str(path))
    (source,) = find_sources(str(path), H36M16)
    assert (source.traits.layout, source.traits.coordinates) == (H36M16, 2)
    assert source.traits.class_names == ("class 0", "class 1", "class 2")
    recording = source.parse(Item("x", 2), b"")
    assert np.array_equal(recording.motion, array[2].transpose(1, 2, 0))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0])
def test_a_bad_published_sequence_is_set_aside(tmp_path, bad):
    array = np.full((1, 3, 4, 25, 1), bad, np.float32)
    with pytest.raises(RejectedRecording, match=r"NaN or infinite|no frame holds a body"):
        read_all(published(tmp_path, array, [0]), NTU25)


def test_bad_published_arrays_are_refused(tmp_path):
    good = np.ones((3, 3, 8, 25, 1), np.float32)
    for array, labels, message in [
        (
            good,
            [0, 1, 2],
            "nothing says whose joints these are; --layout says it: ntu25, openpose25 would fit, or a FILE",
        ),
        (
            good[:, :, :, :7],
            [0, 1, 2],
            "--layout says it: known are ntu25, .*, or it names a FILE.yaml of your own",
        ),
    ]:
        with pytest.raises(UserError, match=message):
            find_sources(str(published(tmp_path, array, labels)))
    for array, labels, message in [
        (good, [0, 1], r"train_label\.pkl: 2 labels for the 3 sequences of train_data\.npy"),
        (good, [0, 1, -1], "labels from -1 to 1; they count from 0"),
        (good[0, ..., 0, 0], [0, 1, 2], r"has shape \(3, 8\) of float32; expected numbers"),
        (good.astype(str), [0, 1, 2], "of <U32; expected numbers"),
        (good[:, :, :, :7], [0, 1, 2], r"\(3, 3, 8, 7, 1\): no order of axes gives the 25 joints of ntu25"),
        (good[:, :1], [0, 1, 2], r"expected are \(N, C, T, V, M\), \(N, C, T, V\), "),
        (good[:0], [], r"has shape \(0, 3, 8, 25, 1\)"),
    ]:
        with pytest.raises(UserError, match=message):
            find_sources(str(published(tmp_path, array, labels)), NTU25)


def test_a_truncated_array_and_a_missing_label_file_are_refused(tmp_path):
    path = published(tmp_path, np.ones((3, 3, 8, 25, 1), np.float32), [0, 1, 2])
    path.write_bytes(path.read_bytes()[:999])
    with pytest.raises(UserError, match=r"train_data\.npy: cannot be read as a \.npy array"):
        find_sources(str(path))
    (tmp_path / "train_label.pkl").unlink()
    with pytest.raises(UserError, match=r"its labels are missing; expected train_label\.pkl"):
        find_sources(str(path))


def test_an_array_of_objects_is_refused(tmp_path):
    np.save(tmp_path / "train_data.npy", np.array([{}], object), allow_pickle=True)
    (tmp_path / "train_label.pkl").write_bytes(pickle.dumps([0]))
    with pytest.raises(UserError, match=r"train_data\.npy: cannot be read as a \.npy array of numbers"):
        find_sources(str(tmp_path / "train_data.npy"))


LAYOUT = """
name: worm
joints: [head, neck, trunk, tail]
bones: [[head, neck], [neck, trunk], [trunk, tail]]
root: trunk
"""


@pytest.fixture
def worm(tmp_path) -> SkeletonLayout:
    (tmp_path / "worm.yaml").write_text(LAYOUT)
    return read_layout(tmp_path / "worm.yaml")


def test_arrays_of_ones_own_padded_and_end_to_end(tmp_path, worm):
    motions = [moving_body(length, seed=length, joints=4) for length in (3, 5, 4)]
    padded = np.zeros((3, 5, 4, 3), np.float32)
    for number, motion in enumerate(motions):
        padded[number, : len(motion)] = motion
    common = {"labels": np.array(["wriggle", "dig", "dig"]), "lengths": [3, 5, 4], "subjects": [1, 2, 1]}
    np.savez(tmp_path / "padded.npz", motions=padded, **common)
    np.savez_compressed(tmp_path / "joined.npz", motions=np.concatenate(motions), **common)
    for stem in ("padded", "joined"):
        recordings = list(read_all(tmp_path / f"{stem}.npz", worm).values())
        assert [recording.name for recording in recordings] == [f"{stem}-00000{n}" for n in range(3)]
        assert [recording.label for recording in recordings] == [1, 0, 0]  # class names in alphabetical order
        assert [recording.subject for recording in recordings] == [1, 2, 1]
        assert all(np.array_equal(r.motion, m) for r, m in zip(recordings, motions, strict=True))


def test_arrays_must_say_whose_joints_they_hold(tmp_path):
    np.savez(tmp_path / "a.npz", motions=moving_body(8)[None], labels=[0])
    with pytest.raises(
        UserError, match=r"motions has shape \(1, 8, 25, 3\), and nothing says .* ntu25, openpose25 would"
    ):
        find_sources(str(tmp_path / "a.npz"))
    np.savez(tmp_path / "a.npz", motions=moving_body(8)[None], labels=[0], layout="ntu25")
    (source,) = find_sources(str(tmp_path / "a.npz"))
    assert source.traits.layout == NTU25


MOTIONS = moving_body(6, joints=4).reshape(2, 3, 4, 3)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"motions": MOTIONS}, "has no array 'labels'; found: motions"),
        ({"motions": MOTIONS, "labels": [0]}, r"labels has shape \(1,\), expected \(2,\): one for each motion"),
        ({"motions": MOTIONS, "labels": [0, 1, 1]}, r"labels has shape \(3,\), expected \(2,\)"),
        ({"motions": MOTIONS, "labels": [0.5, 1.0]}, "labels is float64"),
        ({"motions": MOTIONS, "labels": [np.nan, 1.0]}, "labels is float64"),
        ({"motions": MOTIONS, "labels": [0, 1], "class_names": "a"}, r"class_names is <U1 \(\); expected text"),
        ({"motions": MOTIONS, "labels": [0, -1]}, "labels from -1 to 0 for 1 classes"),
        ({"motions": MOTIONS, "labels": [0, 2], "class_names": ["a", "b"]}, "labels from 0 to 2 for 2 classes"),
        (
            {"motions": MOTIONS, "labels": ["a", "c"], "class_names": ["a", "b"]},
            "label 'c' is not among class_names",
        ),
        (
            {"motions": MOTIONS, "labels": [0, 0], "lengths": [3, 4]},
            "2 lengths from 3 to 4; 2 are needed, and 1 to 3 are possible",
        ),
        ({"motions": MOTIONS[0], "labels": [0, 0]}, "lie end to end and need `lengths`"),
        ({"motions": MOTIONS[0], "labels": [0, 0], "lengths": [1, 1]}, "add up to the 3 frames"),
        ({"motions": MOTIONS, "labels": [0, 0], "names": ["x"]}, "1 names for 2 motions"),
        ({"motions": MOTIONS, "labels": [0, 0], "subjects": [1]}, "subjects is int64"),
        ({"motions": MOTIONS, "labels": [0, 0], "subjects": [1.5, 2]}, "subjects is float64"),
        ({"motions": MOTIONS[:, :, :3], "labels": [0, 0]}, "no order of axes gives the 4 joints of worm"),
        ({"motions": MOTIONS.astype(str), "labels": [0, 0]}, r"motions is <U\d+; expected numbers"),
        (
            {"motions": np.array([None, {}], object), "labels": [0, 0]},
            r"motions is an array of objects that are not arrays of numbers",
        ),
    ],
)
def test_bad_arrays_of_ones_own_are_refused(tmp_path, worm, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UserError, match=message) as refusal:
        find_sources(str(tmp_path / "a.npz"), worm)
    assert "\n" not in str(refusal.value)


def test_a_npz_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    np.savez_compressed(
        tmp_path / "a.npz", motions=np.zeros((10, 100, 25, 3), np.float32), labels=np.zeros(10, int)
    )
    monkeypatch.setattr("kgan_ray.data.sources.arrays.npz.MOST_UNPACKED", 100_000)
    with pytest.raises(UserError, match=r"a\.npz: motions takes \d+ bytes unpacked; at most 100000 are"):
        find_sources(str(tmp_path / "a.npz"), NTU25)


def test_a_nan_in_ones_own_arrays_is_set_aside(tmp_path, worm):
    motions = MOTIONS.copy()
    motions[1, 2, 0, 0] = np.nan
    np.savez(tmp_path / "a.npz", motions=motions, labels=[0, 0])
    (source,) = find_sources(str(tmp_path / "a.npz"), worm)
    with pytest.raises(RejectedRecording, match="frame 3: a coordinate is NaN or infinite"):
        source.parse(source.items()[1], b"")


def test_what_is_no_source_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/a.txt").write_text("x")
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed/a.json").write_text("{}")
    (tmp_path / "mixed/a.skeleton").write_text("0")
    for name, message in [
        ("absent", "absent: does not exist"),
        ("empty", "empty: there is nothing in it; accepted are a folder or zip of .skeleton files"),
        ("notes", r"notes: its files \(.txt\) are not known"),
        ("notes/a.txt", "not a source that is known; accepted are"),
        ("mixed", "holds 1 .json and 1 .skeleton files; move one kind to a folder of its own"),
    ]:
        with pytest.raises(UserError, match=message):
            find_sources(str(tmp_path / name))
