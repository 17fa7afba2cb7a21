"""pyskl's pickles: every protocol and form is read to the same recordings, and nothing in them is run."""

import os
import pickle
import tracemalloc

import numpy as np
import pytest

from helpers.other_forms import genuine_recordings, made_recordings, pyskl_tree, write_pyskl
from helpers.recordings import REAL_DATA, moving_body
from kgan_ray.data.recording import RejectedRecording
from kgan_ray.data.sources.ntu_files import SkeletonFiles
from kgan_ray.data.sources.recognise import find_sources
from kgan_ray.settings import UserError
from kgan_ray.skeleton import H36M16, LAYOUTS, NTU25


def source_of(path, layout=None):
    (source,) = find_sources(str(path), layout)
    return pickle.loads(pickle.dumps(source)), source.items()  # as a worker gets it


def read_all(path, layout=None):
    source, items = source_of(path, layout)
    return {item.name: source.read(item, source.fetch(item)) for item in items}


def dumped(path, tree, protocol=4):
    path.write_bytes(pickle.dumps(tree, protocol))
    return path


def annotation(name, keypoint, label=0, **others):
    return {"frame_dir": name, "label": label, "keypoint": keypoint, "total_frames": 4, **others}


def assert_same(read, recorded, dtype=np.float32):
    assert read.keys() == {one.name for one in recorded}
    for one in recorded:
        recording, bodies = read[one.name], one.bodies.astype(dtype).astype(np.float32)
        assert np.array_equal(recording.motion, bodies[0])
        assert (recording.label, recording.subject, recording.num_bodies) == (one.label, one.subject, len(bodies))
        assert (recording.motion_second is None) == (len(bodies) == 1)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("dtype", ["f2", "<f4", ">f8"])
def test_every_protocol_and_type(tmp_path, protocol, dtype):
    recorded = made_recordings()
    assert_same(read_all(write_pyskl(tmp_path / "ntu60_3danno.pkl", recorded, protocol, dtype)), recorded, dtype)


def _as_lists(tree):
    for one in tree["annotations"]:
        one["keypoint"] = one["keypoint"].tolist()


def _in_fortran_order(tree):
    for one in tree["annotations"]:
        one["keypoint"] = np.asfortranarray(one["keypoint"])


def _as_a_list_of_bodies(tree):
    for one in tree["annotations"]:
        one["keypoint"] = list(one["keypoint"])


def _as_objects(tree):
    for one in tree["annotations"]:
        one["keypoint"] = one["keypoint"].astype(object)
    tree["annotations"] = np.array(tree["annotations"], object)


def _with_bytes_for_keys(tree):
    tree["annotations"] = [{key.encode(): value for key, value in one.items()} for one in tree["annotations"]]


def _with_other_labels(tree):
    for number, one in enumerate(tree["annotations"]):
        one["label"] = [np.int64(one["label"]), np.eye(60)[one["label"]], float(one["label"])][number % 3]


def _with_numbers_for_names(tree):
    for number, one in enumerate(tree["annotations"]):
        one["img_shape"] = np.array([1080, 1920])
        one["frame_dir"] = number


def _with_more_keys(tree):
    tree["version"] = 3
    for one in tree["annotations"]:
        one.update(extra={"a": (1, None)}, frame_dir=f"/data/ntu/{one['frame_dir']}.skeleton")


def _with_nothing_for_some(tree):
    tree["annotations"] += [None, annotation("S001C001P009R001A001", np.zeros((0, 4, 25, 3), np.float16))]


CHANGES = (
    _as_lists,
    _in_fortran_order,
    _as_a_list_of_bodies,
    _as_objects,
    _with_bytes_for_keys,
    _with_other_labels,
    _with_more_keys,
)


@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize("change", CHANGES)
def test_other_spellings_of_the_same(tmp_path, change, protocol):
    recorded = made_recordings()
    tree = pyskl_tree(recorded, np.float32)
    change(tree)
    assert_same(read_all(dumped(tmp_path / "a.pkl", tree, protocol)), recorded)


def test_a_list_of_annotations_alone_and_a_body_without_its_axis(tmp_path):
    recorded = [one._replace(bodies=one.bodies[:1]) for one in made_recordings()]
    tree = [annotation(one.name, one.bodies[0], one.label) for one in recorded]
    assert_same(read_all(dumped(tmp_path / "a.pkl", tree)), recorded)


def test_recordings_without_a_body_are_set_aside_and_the_rest_is_read(tmp_path):
    tree = pyskl_tree(made_recordings())
    _with_nothing_for_some(tree)
    source, items = source_of(dumped(tmp_path / "a.pkl", tree))
    assert len(items) == 14
    with pytest.raises(RejectedRecording, match="it has no label"):
        source.read(items[-2], b"")  # None in place of an annotation
    with pytest.raises(RejectedRecording, match=r"key points have the shape \(0, 4, 25, 3\)"):
        source.read(items[-1], b"")


def test_numbers_for_names_and_an_array_for_the_images_shape(tmp_path):
    tree = {"split": {"train": [0, 1], "val": [2, 3]}, "annotations": images(4)}
    _with_numbers_for_names(tree)
    source, items = source_of(dumped(tmp_path / "a.pkl", tree))
    assert [(item.name, source.read(item, b"").fold) for item in items] == [("0", 0), ("1", 0), ("2", 1), ("3", 1)]
    assert "pixels divided by the image's height" in source.description


@pytest.mark.parametrize("dtype", ["U3", "c16", "S3"])
def test_key_points_that_are_no_real_numbers_are_set_aside(tmp_path, dtype):
    tree = [annotation("a", np.ones((1, 400, 25, 3)).astype(dtype))]
    source, items = source_of(dumped(tmp_path / "a.pkl", tree), NTU25)
    with pytest.raises(RejectedRecording, match=r"its key points are .*, no real numbers"):
        source.read(items[0], b"")


@pytest.mark.parametrize("spelt", [list, tuple, set, np.array])
def test_lists_of_names_in_any_spelling(tmp_path, spelt):
    annotations = images(40)
    names = [one["frame_dir"] for one in annotations]
    split = {"train": spelt(names[:30]), "val": spelt(names[30:])}
    source, items = source_of(dumped(tmp_path / "a.pkl", {"split": split, "annotations": annotations}))
    assert [source.read(item, b"").fold for item in items] == [0] * 30 + [1] * 10


def test_a_name_that_comes_again_and_a_label_that_is_none(tmp_path):
    tree = [
        annotation("a", moving_body(4)[None]),
        annotation("a", moving_body(5)[None], 1),
        annotation("b", moving_body(4), "x"),
    ]
    source, items = source_of(dumped(tmp_path / "a.pkl", tree), NTU25)
    assert [item.name for item in items] == ["a", "a (2)", "b"]
    assert [source.read(item, b"").label for item in items[:2]] == [0, 1]
    with pytest.raises(RejectedRecording, match="it has no label that is a whole number from 0"):
        source.read(items[2], b"")


def test_genuine_recordings_are_those_of_the_skeleton_files(tmp_path):
    recorded = genuine_recordings()
    if recorded is None:
        pytest.skip("no genuine recordings here")
    files = SkeletonFiles(REAL_DATA / "ntu_sample_skeletons.zip")
    read = read_all(write_pyskl(tmp_path / "ntu120_3danno.pkl", recorded, 2, np.float32))
    for item in files.items():
        if item.name in read:
            expected, ours = files.parse(item, files.fetch(item)), read[item.name]
            assert np.array_equal(ours.motion, expected.motion)
            assert (ours.label, ours.camera, ours.num_bodies) == (
                expected.label,
                expected.camera,
                expected.num_bodies,
            )


def test_published_splits_follow_from_the_names(tmp_path):
    source, _ = source_of(write_pyskl(tmp_path / "a.pkl", made_recordings()))
    assert set(source.traits.splits) == {"xsub", "xview", "xset"}
    assert (source.traits.layout, len(source.traits.class_names)) == (NTU25, 60)
    assert source.description == "pyskl annotations, 25 joints as ntu25, up to 2 bodies, published splits"


def images(count, bodies=1, coordinates=2):
    """Annotations as HRNet's key points lie in pyskl's files."""
    random = np.random.default_rng(0)
    return [
        annotation(
            f"video-{number:02}",
            random.uniform(100, 900, (bodies, 5, 17, coordinates)).astype(np.float16),
            number % 3,
            img_shape=(1080, 1920),
            original_shape=(1080, 1920),
            keypoint_score=random.uniform(size=(bodies, 5, 17)).astype(np.float16),
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("coordinates", [2, 3])
def test_joints_in_images_are_divided_by_the_height_and_turned_up(tmp_path, coordinates):
    tree = {"split": {"train": ["video-00"], "val": ["video-01"]}, "annotations": images(3, 2, coordinates)}
    path = dumped(tmp_path / "diving48_hrnet.pkl", tree)
    source, items = source_of(path)
    assert (source.traits.layout, source.traits.coordinates) == (LAYOUTS["coco17"], 2)
    assert "17 joints as coco17 in images" in source.description
    assert "own split (own)" in source.description
    recording = source.read(items[0], b"")
    pixels = tree["annotations"][0]["keypoint"][0, ..., :2].astype(np.float32)
    assert np.allclose(recording.motion, pixels * [1, -1] / 1080)
    assert [source.read(item, b"").fold for item in items[:2]] == [0, 1]
    with pytest.raises(RejectedRecording, match="in neither list of the split"):
        source.read(items[2], b"")
    with pytest.raises(RejectedRecording, match="its img_shape is missing, which the others have"):
        source.read(items[0]._replace(place=[0, None, 0, items[0].place[3]]), b"")
    source.scale = (0.01, -0.01)
    assert np.allclose(source.read(items[0], b"").motion, pixels * [0.01, -0.01])


def test_split_chooses_one_of_several(tmp_path):
    names = [f"video-{number:02}" for number in range(4)]
    lists = {"train1": names[:2], "test1": names[2:], "train2": names[2:], "test2": names[:2]}
    path = dumped(tmp_path / "ucf101_hrnet.pkl", {"split": lists, "annotations": images(4)})
    (source,) = find_sources(str(path))
    assert source.own_splits == ("1", "2")
    assert [source.read(item, b"").fold for item in source.items()] == [0, 0, 1, 1]
    source.split = "2"
    assert [source.read(item, b"").fold for item in source.items()] == [1, 1, 0, 0]
    source.split = "hash"
    assert {source.read(item, b"").fold for item in source.items()} == {None}


def test_labels_that_count_from_one(tmp_path):
    tree = [annotation(f"v{number}", moving_body(4)[None], number % 3 + 1) for number in range(6)]
    source, items = source_of(dumped(tmp_path / "a.pkl", tree))
    assert [source.read(item, b"").label for item in items] == [0, 1, 2] * 2
    assert source.description.endswith("labels count from 1")


class Payload:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("protocol", [2, 4])
def test_code_among_annotations_is_not_run(tmp_path, protocol):
    mark = tmp_path / "mark"
    tree = pyskl_tree(made_recordings())
    tree["annotations"][3]["keypoint"] = Payload(mark)
    with pytest.raises(UserError, match=r"holds .*mkdir, which is code and was not run"):
        find_sources(str(dumped(tmp_path / "a.pkl", tree, protocol)))
    assert not mark.exists()


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ([1, 2], "a pickle, but not of pyskl's annotations"),
        ((["a"], [0]), "a pickle of labels goes with its"),
        ({"annotations": []}, "not of pyskl's annotations"),
        (
            [annotation("a", np.ones((1, 4, 25, 3)), "walk")],
            "none of its annotations has a label that is a whole number from 0",
        ),
        ([{"frame_dir": "a", "label": 0, "raw_file": "x"}], "table of contents of Kinetics-400"),
        (
            [annotation("a", np.ones((1, 4, 19, 3)))],
            "nothing says whose joints these are; --layout says it: known are",
        ),
        ([annotation("a", np.ones((1, 4, 17, 3)))], "--layout says it: h36m17, coco17 would fit"),
        ([annotation("a", "text")], "none of its 1 annotations holds key points"),
    ],
)
def test_other_pickles_are_refused_in_one_line(tmp_path, tree, message):
    with pytest.raises(UserError, match=message) as refusal:
        find_sources(str(dumped(tmp_path / "a.pkl", tree)))
    assert "\n" not in str(refusal.value)


def test_a_layout_of_ones_own(tmp_path):
    source, items = source_of(dumped(tmp_path / "a.pkl", [annotation("a", np.ones((1, 4, 16, 3)))]), H36M16)
    assert source.read(items[0], b"").motion.shape == (4, 16, 3)


@pytest.mark.parametrize("end", [3000, -20])
def test_a_file_that_is_cut_short_is_refused(tmp_path, end):
    path = write_pyskl(tmp_path / "a.pkl", made_recordings())
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(UserError, match="cannot be read as a pickle"):
        find_sources(str(path))


def test_values_that_do_not_fill_their_shape_are_set_aside(tmp_path):
    source, items = source_of(write_pyskl(tmp_path / "a.pkl", made_recordings()))
    items[0].place[3][1][1] += 1  # a frame more than there is
    with pytest.raises(RejectedRecording, match=r"key points cannot be read .an array whose values are cut short"):
        source.read(items[0], b"")


def test_key_points_stay_in_the_file(tmp_path):
    """However long recordings are, the memory of opening the file is that of its structure."""
    tree = [annotation(f"v{number}", np.zeros((2, 200, 25, 3)), number % 2) for number in range(50)]
    path = dumped(tmp_path / "a.pkl", tree, 2)
    assert path.stat().st_size > 10_000_000
    tracemalloc.start()
    find_sources(str(path))
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
