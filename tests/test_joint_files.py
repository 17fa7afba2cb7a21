"""Folders of recordings, a file each: HumanML3D's joints and the tables of rehabilitation data sets."""

import numpy as np
import pytest

from helpers.recordings import REAL_DATA, moving_body
from kgan_ray.data.recording import RejectedRecording
from kgan_ray.data.sources.recognise import find_sources
from kgan_ray.data.sources.tables import joints_from_angles
from kgan_ray.data.splits import hashed_fold
from kgan_ray.settings import UserError
from kgan_ray.skeleton import LAYOUTS, NTU25

SMPL = LAYOUTS["smpl22"]


def read_all(path, layout=None):
    (source,) = find_sources(str(path), layout)
    return {item.name: source.read(item, source.fetch(item)) for item in source.items()}


def write_joints(folder, names, joints=22):
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{name}.npy", moving_body(5 + number, seed=number, joints=joints))
    return folder


def test_humanml3d_says_whose_joints_it_holds_and_keeps_mirrored_copies_together(tmp_path):
    names = [f"{number:06}" for number in range(12)]
    folder = write_joints(tmp_path / "HumanML3D/new_joints", [*names, *(f"M{name}" for name in names)])
    np.save(folder / "Mean.npy", np.zeros(263))
    (source,) = find_sources(str(folder))
    assert source.traits.layout == SMPL
    assert source.description == "HumanML3D's new_joints, 22 joints as smpl22, one class, no split"
    recordings = read_all(folder)
    assert len(recordings) == 24
    assert np.array_equal(recordings["000003"].motion, moving_body(8, seed=3, joints=22))
    assert [recordings[f"M{name}"].fold for name in names] == [hashed_fold(name) for name in names]


def test_lists_of_names_are_the_split(tmp_path):
    folder = write_joints(tmp_path / "HumanML3D/new_joints", ["000001", "000002", "000003", "000004"])
    for name, content in (("train", "000001\n000002\n"), ("val", "000003"), ("test", "")):
        (folder.parent / f"{name}.txt").write_text(content)
    (source,) = find_sources(str(folder))
    assert "own split (train.txt, val.txt, test.txt)" in source.description
    items = {item.name: item for item in source.items()}
    folds = {
        name: source.read(items[name], source.fetch(items[name])).fold for name in ("000001", "000002", "000003")
    }
    assert folds == {"000001": 0, "000002": 0, "000003": 1}
    with pytest.raises(RejectedRecording, match=r"in none of train\.txt, val\.txt and test\.txt"):
        source.parse(items["000004"], source.fetch(items["000004"]))


def test_folders_are_classes(tmp_path):
    write_joints(tmp_path / "mine", ["walk/1", "walk/2", "run/1"], joints=17)
    recordings = read_all(tmp_path / "mine", LAYOUTS["coco17"])
    assert {name: recording.label for name, recording in recordings.items()} == {
        "run-1": 0,
        "walk-1": 1,
        "walk-2": 1,
    }


def test_labels_in_a_table_of_their_own(tmp_path):
    folder = write_joints(tmp_path / "mine", ["a", "b", "c"])
    (folder / "labels.csv").write_text("a,walk\nb.npy, run\n")
    (source,) = find_sources(str(folder), SMPL)
    assert source.traits.class_names == ("run", "walk")
    items = source.items()
    assert [source.parse(item, source.fetch(item)).label for item in items[:2]] == [1, 0]
    with pytest.raises(RejectedRecording, match=r"labels\.csv does not name it"):
        source.parse(items[2], source.fetch(items[2]))
    (folder / "labels.csv").write_text("x,walk\n")
    with pytest.raises(UserError, match=r"labels\.csv names none of the recordings"):
        find_sources(str(folder), SMPL)


def test_files_of_joints_that_cannot_be_used(tmp_path):
    folder = write_joints(tmp_path / "mine", ["a", "b"])
    with pytest.raises(
        UserError, match=r"a\.npy has shape \(5, 22, 3\), and nothing says .* smpl22, uiprmd22 would fit"
    ):
        find_sources(str(folder))
    with pytest.raises(UserError, match="no order of axes gives the 25 joints of ntu25"):
        find_sources(str(folder), NTU25)
    np.save(folder / "b.npy", np.zeros((4, 263)))
    (source,) = find_sources(str(folder), SMPL)
    with pytest.raises(RejectedRecording, match=r"has the shape \(4, 263\), expected that of the others"):
        source.parse(source.items()[1], source.fetch(source.items()[1]))
    (folder / "a.npy").write_bytes(b"spoilt")
    (folder / "b.npy").write_bytes(b"")
    with pytest.raises(
        UserError, match=r"none of 2 files can be read; a\.npy: cannot be read as an array of numbers"
    ):
        find_sources(str(folder), SMPL)
    np.save(folder / "b.npy", np.zeros((4, 22, 3)))
    (source,) = find_sources(str(folder), SMPL)
    (folder / "train.txt").write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"train\.txt: cannot be read as a list of names"):
        find_sources(str(folder), SMPL)
    (folder / "train.txt").unlink()
    np.save(folder / "a.npy", np.zeros((4, 263)))
    with pytest.raises(UserError, match="HumanML3D's feature vectors, not joints; give its folder new_joints"):
        find_sources(str(folder), SMPL)


def table(values, separator=",", end="\n"):
    return (
        end.join(separator.join(f"{value:.6f}" for value in row) for row in values.reshape(len(values), -1)) + end
    )


@pytest.mark.parametrize("columns", [75, 100])
def test_kimore(tmp_path, columns):
    motions = {}
    for person in ("E_ID1", "S_ID2"):
        for exercise in (1, 5):
            folder = tmp_path / f"KIMORE/GPP/{person}/Es{exercise}/Raw"
            folder.mkdir(parents=True)
            motion = moving_body(6, seed=exercise)
            motions[person, exercise] = motion
            values = motion if columns == 75 else np.concatenate([motion, np.full((6, 25, 1), 2)], axis=-1)
            (folder / "JointPosition100914_191053.csv").write_text(table(values, end=",\r\n\r\n"))
            (folder / "JointOrientation100914_191053.csv").write_text("1,2\n")
    recordings = read_all(tmp_path / "KIMORE")
    assert len(recordings) == 4
    recording = recordings["S_ID2-Es5-Raw-JointPosition100914_191053"]
    assert np.allclose(recording.motion, motions["S_ID2", 5], atol=1e-6)
    assert (recording.label, recording.subject) == (4, 2)
    (source,) = find_sources(str(tmp_path / "KIMORE"))
    with pytest.raises(RejectedRecording, match="3 values a line, expected 25 joints of 3 or 4"):
        source.parse(source.items()[0], b"1,2,3\n")
    with pytest.raises(RejectedRecording, match="not a table of numbers"):
        source.parse(source.items()[0], b"1,2,x\n")


def test_angles_turn_the_joints_behind_them():
    """A chest turned by 90 degrees about z lays the neck and all behind it on the side."""
    offsets, angles = np.zeros((1, 22, 3)), np.zeros((1, 22, 3))
    offsets[0, :6, 1] = [1.0, 0.3, 0.2, 0.1, 0.1, 0.1]  # a spine upwards
    angles[0, 2, 2] = np.pi / 2
    joints = joints_from_angles(offsets, angles)
    assert np.allclose(joints[0, 2], [0, 1.5, 0])
    assert np.allclose(joints[0, 5], [-0.3, 1.5, 0])
    angles[0, 0] = [np.pi / 2, np.pi / 2, 0]  # y first, then x: z of the joint's own frame comes to lie along x
    offsets[0, 1] = [0, 0, 1]
    assert np.allclose(joints_from_angles(offsets, angles)[0, 1], [1, 1, 0])
    angles[0, 0], offsets[0, 1] = (
        [np.pi / 2, 0, np.pi / 2],
        [0, 1, 0],
    )  # x before z: y comes to lie along z, and stays
    assert np.allclose(joints_from_angles(offsets, angles)[0, 1], [0, 1, 1])


def test_ui_prmd(tmp_path):
    random = np.random.default_rng(0)
    for sensor, columns in (("Kinect", 66), ("Vicon", 117)):
        for kind in ("positions", "angles"):
            folder = tmp_path / f"Segmented Movements/{sensor}/{kind.title()}"
            folder.mkdir(parents=True)
            for name in ("m01_s01_e01", "m10_s02_e03"):
                (folder / f"{name}_{kind}.txt").write_text(table(random.normal(size=(5, columns)) * 10))
    recordings = read_all(tmp_path)
    assert recordings.keys() == {"m01_s01_e01", "m10_s02_e03"}
    recording = recordings["m10_s02_e03"]
    assert (recording.label, recording.subject, recording.motion.shape) == (9, 2, (5, 22, 3))
    positions = np.loadtxt(
        tmp_path / "Segmented Movements/Kinect/Positions/m10_s02_e03_positions.txt", delimiter=","
    )
    assert np.allclose(recording.motion[:, 0], positions[:, :3] / 100)
    bones = np.linalg.norm(np.diff(recording.motion[:, [7, 8]], axis=1), axis=-1)[:, 0]
    assert np.allclose(bones, np.linalg.norm(positions.reshape(5, 22, 3)[:, 8], axis=-1) / 100)
    (source,) = find_sources(str(tmp_path))
    (tmp_path / "Segmented Movements/Kinect/Angles/m01_s01_e01_angles.txt").unlink()
    (source,) = find_sources(str(tmp_path))
    with pytest.raises(RejectedRecording, match=r"m01_s01_e01_angles\.txt is missing"):
        source.fetch(source.items()[0])


def test_linked_folders_are_followed_once(tmp_path):
    elsewhere = write_joints(tmp_path / "elsewhere", ["a", "b"])
    folder = write_joints(tmp_path / "mine", ["c"])
    (folder / "linked").symlink_to(elsewhere, target_is_directory=True)
    (folder / "round").symlink_to(folder, target_is_directory=True)
    (elsewhere / "up").symlink_to(tmp_path, target_is_directory=True)
    assert sorted(name[-1] for name in read_all(folder, SMPL)) == ["a", "b", "c"]


def test_a_stray_file_is_left_aside_and_said(tmp_path):
    folder = write_joints(tmp_path / "mine", ["a", "b", "c"])
    (folder / "notes.json").write_text("{}")
    (source,) = find_sources(str(folder), SMPL)
    assert source.left_aside == "left aside: 1 .json file"
    for number in range(3):
        (folder / f"{number}.json").write_text("{}")
    with pytest.raises(UserError, match=r"holds 4 \.json and 3 \.npy files; move one kind to a folder of its own"):
        find_sources(str(folder), SMPL)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"data": [], "label": "x", "label_index": 3}', "of ST-GCN's Kinetics-skeleton .* --layout openpose18"),
        ('{"version": 1.3, "people": []}', "OpenPose's output of one frame, .* --layout openpose25"),
        ('[{"image_id": "0.jpg", "keypoints": []}]', "detections in COCO's form"),
        ('{"images": [], "annotations": []}', "COCO's annotations of single images"),
        ('{"a": 1}', "JSON, but not NW-UCLA's"),
        ("[1]", "JSON, but not NW-UCLA's"),
        ("[[", "cannot be read as JSON"),
    ],
)
def test_json_of_others_is_called_by_its_name(tmp_path, content, message):
    (tmp_path / "x.json").write_text(content)
    for path in (tmp_path, tmp_path / "x.json"):
        with pytest.raises(UserError, match=message) as refusal:
            find_sources(str(path))
        assert "\n" not in str(refusal.value)


def test_genuine_ntu_recordings_describe_themselves():
    path = REAL_DATA / "ntu_sample_skeletons.zip"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    (source,) = find_sources(str(path))
    assert source.description == "NTU RGB+D recordings, 25 joints as ntu25, 120 classes, published splits"
