import numpy as np
import pytest

from kgan_ray.data.sources.ntu import SPLITS, parse_name
from kgan_ray.data.sources.skeleton_file import parse_skeleton
from kgan_ray.data.splits import split_rows
from kgan_ray.data.synthetic.actions import ACTION_CLASSES, Manner
from kgan_ray.data.synthetic.body import ANKLE_HEIGHT, Body, Pose, two_bones
from kgan_ray.data.synthetic.recordings import ACTIONS, JITTER, synthesise, write_skeleton_file
from kgan_ray.skeleton import NTU25

JOINT = {name: index for index, name in enumerate(NTU25.joints)}


def performed(action, **manner):
    """The action's joints (T, 25, 3) in body axes, without jitter."""
    chosen = next(known for known in ACTION_CLASSES if known.name == action)
    pose = Pose(chosen.frames, Body())
    chosen.act(pose, Manner(**{"size": 1.0, "pace": 1.0, "phase": 0.0, **manner}))
    return pose.joints()


@pytest.mark.parametrize("action", ACTIONS)
def test_bones_keep_their_length(action):
    joints = performed(action)
    for a, b in NTU25.bones:
        if "hand" in NTU25.joints[a] + NTU25.joints[b]:
            continue  # fingers are placed along the forearm, thumb and tip apart
        length = np.linalg.norm(joints[:, a] - joints[:, b], axis=1)
        assert np.ptp(length) < 1e-6, f"{NTU25.joints[a]} to {NTU25.joints[b]}"


@pytest.mark.parametrize("action", ACTIONS)
def test_knees_bend_forward_only(action):
    joints = performed(action)
    for side in ("left", "right"):
        hip, knee, ankle = (joints[:, JOINT[f"{side}_{name}"]] for name in ("hip", "knee", "ankle"))
        thigh, shin = knee - hip, ankle - knee
        bend = np.cross(thigh, shin)[:, 0]  # about the body's left: positive where the shin goes back
        assert bend.min() > -1e-3


@pytest.mark.parametrize("action", ACTIONS)
def test_no_foot_goes_through_the_floor_and_one_is_on_it(action):
    ankles = performed(action)[:, [JOINT["left_ankle"], JOINT["right_ankle"]], 1]
    assert ankles.min() > ANKLE_HEIGHT - 0.02
    if action != "jumping up":
        assert np.all(ankles.min(axis=1) < ANKLE_HEIGHT + 0.06)


def test_what_makes_each_action_what_it_is():
    def height(action, joint):
        return performed(action)[:, JOINT[joint], 1]

    assert height("waving", "right_hand").max() > height("waving", "head").max()
    assert np.abs(height("waving", "left_hand") - height("waving", "left_hand")[0]).max() < 0.05
    assert height("jumping up", "left_ankle").max() > 0.3
    assert height("sitting down", "spine_base")[-1] < 0.65 * height("sitting down", "spine_base")[0]
    assert height("standing up", "spine_base")[-1] > 1.5 * height("standing up", "spine_base")[0]
    assert height("bowing", "head").min() < 0.85 * height("bowing", "head")[0]
    assert height("kicking", "right_ankle").max() > 0.45
    assert height("picking up", "right_hand").min() < 0.45
    hands = performed("clapping")[:, [JOINT["left_hand"], JOINT["right_hand"]]]
    assert np.linalg.norm(hands[:, 0] - hands[:, 1], axis=1).min() < 0.15
    walked = performed("walking")[:, JOINT["spine_base"], 2]
    assert walked[-1] - walked[0] > 1.0


def test_index_and_seed_decide_everything():
    first, again, other_seed = synthesise(7, 0), synthesise(7, 0), synthesise(7, 1)
    assert first.name == again.name
    assert np.array_equal(first.motion, again.motion)
    assert not np.array_equal(first.motion[0], other_seed.motion[0])


def test_names_are_those_of_ntu_and_never_repeat():
    recordings = [synthesise(index, 0) for index in range(1200)]
    assert len({recording.name for recording in recordings}) == 1200
    for recording in recordings[:50]:
        ids = (recording.setup, recording.camera, recording.subject, recording.replication, recording.label + 1)
        assert parse_name(recording.name) == ids


@pytest.mark.parametrize("benchmark", ["xsub", "xview", "xset"])
def test_two_hundred_recordings_make_every_split(benchmark):
    recordings = [synthesise(index, 0) for index in range(200)]
    ids = {name: np.array([getattr(r, name) for r in recordings]) for name in ("setup", "camera", "subject")}
    for split in ("train", "test"):
        rows = split_rows(benchmark, split, SPLITS, ids)
        assert {recordings[row].label for row in rows} == set(range(len(ACTIONS)))


def test_a_person_stands_before_the_camera_with_a_sensors_jitter():
    for index in range(24):
        motion = synthesise(index, 0).motion
        depth = motion[..., 2]
        assert depth.min() > 1.0
        assert depth.max() < 5.5
        shake = np.diff(motion[:, JOINT["spine_base"]], n=2, axis=0).std()
        assert JITTER < shake < 5 * JITTER


def test_classes_differ_more_than_people():
    """The nearest class mean of other subjects names the action."""
    recordings = [synthesise(index, 0) for index in range(480)]

    def features(recording):
        frames = np.linspace(0, len(recording.motion) - 1, 16).astype(int)
        centred = recording.motion[frames] - recording.motion[frames][:, NTU25.root : NTU25.root + 1]
        return np.concatenate([np.linalg.norm(centred[..., [0, 2]], axis=2), centred[..., 1]], axis=1).ravel()

    values = np.array([features(recording) for recording in recordings])
    labels = np.array([recording.label for recording in recordings])
    trains = np.array([recording.subject % 2 == 0 for recording in recordings])
    means = np.array([values[trains & (labels == label)].mean(axis=0) for label in range(len(ACTIONS))])
    nearest = np.linalg.norm(values[~trains, None] - means, axis=2).argmin(axis=1)
    assert (nearest == labels[~trains]).mean() > 0.8  # chance is 1/12


def test_two_bones_reach_their_target_or_point_at_it():
    start, pole = np.zeros((1, 3)), np.array([[0.0, 0.0, 1.0]])
    middle, end = two_bones(start, np.array([[0.0, -0.5, 0.0]]), 0.3, 0.4, pole)
    np.testing.assert_allclose(end, [[0.0, -0.5, 0.0]], atol=1e-9)
    np.testing.assert_allclose([np.linalg.norm(middle), np.linalg.norm(end - middle)], [0.3, 0.4], atol=1e-9)
    assert middle[0, 2] > 0  # bent towards the pole
    _, far = two_bones(start, np.array([[0.0, -2.0, 0.0]]), 0.3, 0.4, pole)
    assert np.linalg.norm(far) < 0.7


def test_a_written_file_is_read_back(tmp_path):
    recording = synthesise(3, 0)
    write_skeleton_file(recording, tmp_path / "x.skeleton")
    data = (tmp_path / "x.skeleton").read_bytes()
    assert data.count(b"\r\n") == 1 + recording.num_frames * 28
    found = parse_skeleton(data)
    assert (found.num_frames, found.num_bodies) == (recording.num_frames, 1)
    np.testing.assert_allclose(found.motion, recording.motion, rtol=1e-6, atol=1e-7)
