"""Arrays of many recordings: CTR-GCN's, 2s-AGCN's and one's own, whatever the order of their axes and their padding."""

import os
import pickle

import numpy as np
import pytest

from helpers.other_forms import TRAIN_SUBJECTS, ctr_gcn_arrays, made_recordings, write_agcn
from helpers.recordings import moving_body
from kgan_ray.data.recording import RejectedRecording
from kgan_ray.data.sources.arrays.npz import open_npz
from kgan_ray.data.sources.recognise import find_sources
from kgan_ray.data.splits import BY_FOLD
from kgan_ray.settings import UserError
from kgan_ray.skeleton import LAYOUTS, NTU25


def read_all(path, layout=None):
    recordings = {}
    for source in find_sources(str(path), layout):
        worker = pickle.loads(pickle.dumps(source))
        recordings |= {item.name: worker.read(item, worker.fetch(item)) for item in source.items()}
    return recordings


RECORDED = made_recordings()


def assert_ctr_gcn(recordings, stem, moved=True):
    for part in ("train", "test"):
        chosen = [one for one in RECORDED if (one.subject in TRAIN_SUBJECTS) == (part == "train")]
        for number, one in enumerate(chosen):
            recording = recordings.pop(f"{stem}-{part}-{number:06}")
            assert np.array_equal(recording.motion, one.bodies[0] - (one.bodies[0][0, 1] if moved else 0))
            assert (recording.label, recording.fold) == (one.label, ("train", "test").index(part))
            assert recording.num_bodies == len(one.bodies)
            assert recording.cut_frames == 300 - one.bodies.shape[1]
    assert recordings == {}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_ctr_gcn(tmp_path, save):
    save(tmp_path / "NTU60_CS.npz", **ctr_gcn_arrays(RECORDED))
    (source,) = find_sources(str(tmp_path / "NTU60_CS.npz"))
    assert (
        source.description
        == "CTR-GCN arrays, 25 joints as ntu25, two bodies, own split (xsub): 9 train and 3 test"
    )
    assert source.traits.splits == {"xsub": BY_FOLD}
    assert len(source.traits.class_names) == 60
    assert_ctr_gcn(read_all(tmp_path / "NTU60_CS.npz"), "NTU60_CS")


def _whole_numbers(arrays):
    return {name: array.argmax(axis=1) if name[0] == "y" else array for name, array in arrays.items()}


def _double(arrays):
    return {name: array.astype(np.float64) for name, array in arrays.items()}


def _fortran(arrays):
    return {name: np.asfortranarray(array) for name, array in arrays.items()}


def _five_axes(arrays):
    return {
        name: array.reshape(-1, 300, 2, 25, 3).transpose(0, 4, 1, 3, 2) if name[0] == "x" else array
        for name, array in arrays.items()
    }


def _with_extra_keys(arrays):
    return arrays | {"note": np.array("hello")}


@pytest.mark.parametrize("change", [_whole_numbers, _double, _fortran, _five_axes, _with_extra_keys])
def test_ctr_gcn_in_other_hands(tmp_path, change):
    np.savez(tmp_path / "a.npz", **change(ctr_gcn_arrays(RECORDED)))
    assert_ctr_gcn(read_all(tmp_path / "a.npz", NTU25), "a")


@pytest.mark.parametrize(
    ("name", "benchmark"),
    [
        ("NTU60_CV", "xview"),
        ("NTU120_CSub", "xsub"),
        ("NTU120_CSet", "xset"),
        ("ntu60_xview", "xview"),
        ("mine", "own"),
    ],
)
def test_the_benchmark_is_that_of_the_files_name(tmp_path, name, benchmark):
    np.savez(tmp_path / f"{name}.npz", **ctr_gcn_arrays(RECORDED))
    (source,) = find_sources(str(tmp_path / f"{name}.npz"))
    assert set(source.traits.splits) == {benchmark}


def test_one_part_alone_has_no_split(tmp_path):
    arrays = ctr_gcn_arrays(RECORDED)
    np.savez(tmp_path / "a.npz", x_train=arrays["x_train"][..., :75], y_train=arrays["y_train"])
    (source,) = find_sources(str(tmp_path / "a.npz"))
    assert source.traits.splits is None
    assert source.description.endswith("one body, no split: 9 train")


def test_ctr_gcn_without_as_many_labels_is_refused(tmp_path):
    arrays = ctr_gcn_arrays(RECORDED)
    np.savez(tmp_path / "a.npz", **(arrays | {"y_test": arrays["y_test"][:2]}))
    with pytest.raises(
        UserError, match=r"y_test is float64 \(2, 60\); expected one-hot rows .* each of 3 recordings"
    ):
        find_sources(str(tmp_path / "a.npz"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda x: x[..., :75],
            r"train float32 \(9, 300, 150\), test float32 \(3, 300, 75\); expected numbers, of one shape",
        ),
        (lambda x: x[:, :2].astype(str), r"test <U32 \(3, 2, 150\); expected numbers"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(tmp_path, change, message):
    arrays = ctr_gcn_arrays(RECORDED)
    np.savez(tmp_path / "a.npz", **(arrays | {"x_test": change(arrays["x_test"])}))
    with pytest.raises(UserError, match=message):
        find_sources(str(tmp_path / "a.npz"))


def test_an_empty_part_counts_as_none(tmp_path):
    arrays = ctr_gcn_arrays(RECORDED)
    for part in ("test", "train"):
        arrays |= {f"x_{part}": arrays[f"x_{part}"][:0], f"y_{part}": arrays[f"y_{part}"][:0]}
        np.savez(tmp_path / "a.npz", **arrays)
        if part == "test":
            assert find_sources(str(tmp_path / "a.npz"))[0].description.endswith("no split: 9 train")
    with pytest.raises(UserError, match="x_train and x_test hold no recordings"):
        find_sources(str(tmp_path / "a.npz"))


def test_ctr_gcn_with_labels_from_one(tmp_path):
    arrays = ctr_gcn_arrays(RECORDED)
    labels = {name: array.argmax(axis=1) + 1 for name, array in arrays.items() if name[0] == "y"}
    np.savez(tmp_path / "a.npz", **(arrays | labels))
    assert_ctr_gcn(read_all(tmp_path / "a.npz"), "a")


def test_a_row_takes_the_memory_of_a_row(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(1 << 20, dtype=np.float32).reshape(1024, 1024))
    member = open_npz(tmp_path / "a.npz")["x"].in_rows()
    assert member.rows(700, 702).nbytes == 8192
    assert member.rows(700, 701)[0, 0] == 700 * 1024


def test_a_packed_array_is_unpacked_once_and_its_zeros_take_no_room(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    array = np.zeros((64, 1 << 18), np.float32)
    array[40] = 7
    np.savez_compressed(tmp_path / "a.npz", x=array)
    for _ in range(2):
        member = open_npz(tmp_path / "a.npz")["x"].in_rows()
    (file,) = (tmp_path / "tmp").iterdir()
    assert np.array_equal(member.rows(40, 41)[0], array[40])
    assert not member.rows(63, 64).any()
    assert file.stat().st_blocks * 512 < 8 << 20 < array.nbytes


def test_an_npz_that_ends_early_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", **ctr_gcn_arrays(RECORDED))
    (source,) = find_sources(str(tmp_path / "a.npz"))
    data = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(data[:100_000])
    with pytest.raises(RejectedRecording, match="the file ends within x_test"):
        source.parse(source.items()[-1], b"")
    with pytest.raises(UserError, match=r"cannot be read as a \.npz of arrays"):
        find_sources(str(tmp_path / "a.npz"))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"poses": [0], "trans": [0]}, "AMASS's body-model parameters"),
        ({"positions_3d": [0]}, "VideoPose3D's Human3.6M"),
    ],
)
def test_other_peoples_npz_are_called_by_their_names(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UserError, match=message):
        find_sources(str(tmp_path / "a.npz"))


def test_agcn_folders(tmp_path):
    folder = write_agcn(tmp_path / "xsub", RECORDED)
    recordings = read_all(folder)
    assert recordings.keys() == {one.name for one in RECORDED}
    for one in RECORDED:
        assert np.array_equal(recordings[one.name].motion, one.bodies[0])
        assert (recordings[one.name].label, recordings[one.name].subject) == (one.label, one.subject)
    sources = find_sources(str(folder))
    assert [source.kind for source in sources] == ["published", "published"]
    assert "two bodies, published splits" in sources[0].description
    with pytest.raises(
        UserError, match=r"bone or motion stream of a network, not joints; give train_data_joint\.npy"
    ):
        find_sources(str(folder / "train_data_bone.npy"))


def test_two_parts_without_ntus_names_are_the_split(tmp_path):
    for part, labels in (("train", [0, 10, 3]), ("val", [0, 2])):
        np.save(tmp_path / f"{part}_data.npy", np.random.default_rng(0).normal(size=(len(labels), 3, 9, 18, 2)))
        names = [f"{part}-{number}" for number in range(len(labels))]
        (tmp_path / f"{part}_label.pkl").write_bytes(pickle.dumps((names, labels)))
    sources = find_sources(str(tmp_path), LAYOUTS["openpose18"])
    assert [len(source.traits.class_names) for source in sources] == [11, 11]
    assert {name: one.fold for name, one in read_all(tmp_path, LAYOUTS["openpose18"]).items()} == {
        "train-0": 0, "train-1": 0, "train-2": 0, "val-0": 1, "val-1": 1
    }  # fmt: skip


MOTIONS = np.stack([moving_body(7, seed=seed) for seed in range(4)])  # (N, T, V, C)


@pytest.mark.parametrize(
    "arranged",
    [
        MOTIONS,
        MOTIONS.transpose(0, 3, 1, 2),  # N C T V
        MOTIONS.transpose(0, 1, 3, 2),  # N T C V
        MOTIONS.reshape(4, 7, 75),
        MOTIONS[..., None].transpose(0, 3, 1, 2, 4),  # N C T V M
        MOTIONS[:, None],  # N M T V C
        np.concatenate([MOTIONS, np.zeros_like(MOTIONS)], axis=-1).reshape(4, 7, 25, 2, 3).transpose(0, 1, 3, 2, 4).reshape(4, 7, 150),
        np.asfortranarray(MOTIONS),
        MOTIONS.astype(np.float64),
        np.concatenate([MOTIONS, np.full((4, 7, 25, 1), 0.5)], axis=-1),  # visibility behind the coordinates
    ],
)  # fmt: skip
def test_the_axes_of_ones_own_arrays_are_recognised(tmp_path, arranged):
    np.savez(tmp_path / "a.npz", motions=arranged, labels=[0, 1, 0, 1])
    recordings = read_all(tmp_path / "a.npz", NTU25)
    assert all(np.array_equal(one.motion, MOTIONS[number]) for number, one in enumerate(recordings.values()))
    assert {one.num_bodies for one in recordings.values()} == {1}


def test_motions_of_different_lengths_as_an_array_of_arrays(tmp_path):
    motions = np.empty(3, object)
    motions[:] = [moving_body(length, seed=length) for length in (4, 9, 6)]
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", motions=motions, labels=["a", "b", "a"])
        recordings = list(read_all(tmp_path / "a.npz", NTU25).values())
        assert all(np.array_equal(one.motion, motion) for one, motion in zip(recordings, motions, strict=True))


def test_an_array_that_was_written_anew_is_read_anew(tmp_path):
    for value in (1.0, 2.0):
        np.savez(tmp_path / "a.npz", motions=np.asfortranarray(np.full((2, 5, 25, 3), value)), labels=[0, 0])
        assert {one.motion[0, 0, 0] for one in read_all(tmp_path / "a.npz", NTU25).values()} == {value}


@pytest.mark.parametrize("kind", ["U", "S", "O"])
def test_text_may_be_text_bytes_or_objects(tmp_path, kind):
    words = np.array(["hop", "skip", "hop", "skip"]).astype(kind)
    names = np.array(["a", "b", "c", "d"]).astype(kind)
    np.savez(
        tmp_path / "a.npz", motions=MOTIONS, labels=words, names=names, subjects=words, class_names=words[1::-1]
    )
    recordings = read_all(tmp_path / "a.npz", NTU25)
    assert [(name, one.label, one.subject) for name, one in recordings.items()] == [
        ("a", 1, 1), ("b", 0, 2), ("c", 1, 1), ("d", 0, 2)
    ]  # fmt: skip
    (source,) = find_sources(str(tmp_path / "a.npz"), NTU25)
    assert source.traits.class_names == ("skip", "hop")


@pytest.mark.parametrize("kind", [bool, float, np.uint8])
def test_labels_may_be_any_whole_numbers(tmp_path, kind):
    np.savez(tmp_path / "a.npz", motions=MOTIONS, labels=np.array([0, 1, 1, 0]).astype(kind))
    assert [one.label for one in read_all(tmp_path / "a.npz", NTU25).values()] == [0, 1, 1, 0]


class Payload:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_code_in_an_array_of_objects_is_not_run(tmp_path):
    motions = np.empty(2, object)
    motions[:] = [moving_body(4), Payload(tmp_path / "mark")]
    np.savez(tmp_path / "a.npz", motions=motions, labels=[0, 0])
    with pytest.raises(UserError, match=r"motions cannot be read as an array of arrays .*mkdir"):
        find_sources(str(tmp_path / "a.npz"), NTU25)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("filling", [0, np.nan])
def test_padding_is_cut_and_counted(tmp_path, filling):
    padded = np.full((3, 20, 25, 3), filling, np.float32)
    motions = [moving_body(length, seed=length) for length in (5, 9, 12)]
    for number, motion in enumerate(motions):
        padded[number, number : number + len(motion)] = motion  # the second and third begin later
    np.savez(tmp_path / "a.npz", motions=padded, labels=[0, 0, 0])
    recordings = list(read_all(tmp_path / "a.npz", NTU25).values())
    assert all(np.array_equal(one.motion, motion) for one, motion in zip(recordings, motions, strict=True))
    assert [one.cut_frames for one in recordings] == [15, 11, 8]


def test_frames_without_a_body_between_others_stay(tmp_path):
    motions = MOTIONS.copy()
    motions[:, 3] = 0
    np.savez(tmp_path / "a.npz", motions=motions, labels=[0, 0, 0, 0])
    recordings = read_all(tmp_path / "a.npz", NTU25)
    assert all(len(one.motion) == 7 and not one.motion[3].any() for one in recordings.values())


@pytest.mark.parametrize(
    ("labels", "expected", "note"),
    [
        ([1, 2, 3, 2], [0, 1, 2, 1], True),
        ([0, 1, 2, 1], [0, 1, 2, 1], False),
        ([1, 3, 3, 1], [1, 3, 3, 1], False),  # a part of a set: two is missing, so zero may be too
        (np.eye(3)[[2, 0, 1, 0]], [2, 0, 1, 0], False),
    ],
)
def test_labels_that_count_from_one_are_named(tmp_path, labels, expected, note):
    np.savez(tmp_path / "a.npz", motions=MOTIONS, labels=labels)
    (source,) = find_sources(str(tmp_path / "a.npz"), NTU25)
    assert [source.parse(item, b"").label for item in source.items()] == expected
    assert ("labels count from 1" in source.description) == note


def test_scores_behind_joints_in_images_are_left_out(tmp_path):
    random = np.random.default_rng(0)
    motions = np.concatenate([random.uniform(0, 9, (4, 7, 17, 2)), random.uniform(size=(4, 7, 17, 1))], axis=-1)
    np.savez(tmp_path / "a.npz", motions=motions, labels=[0, 0, 0, 0])
    (source,) = find_sources(str(tmp_path / "a.npz"), LAYOUTS["coco17"])
    assert source.traits.coordinates == 2
    assert "the last coordinate is a score and left out" in source.description
    assert np.allclose(source.parse(source.items()[2], b"").motion, motions[2, ..., :2])
