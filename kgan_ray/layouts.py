"""Whose joints: the skeletons of sensors, pose estimators and data sets, as plain tables.

Joints stand in the order of the files. A bone is child-parent; every skeleton is a tree, so pictures that close a
triangle (MediaPipe's shoulders and hips) lose one side of it. The root divides each joint's neighbours into nearer ones
and farther ones, and is what `data.centre` moves to 0.
"""

from __future__ import annotations

from typing import NamedTuple


class Table(NamedTuple):
    """A skeleton as text: the joints' names, and bones as pairs of 0-based numbers."""

    joints: str
    bones: str
    root: int
    always_kept: tuple[int, ...] = ()
    flat: bool = False  # found in images, so that a third coordinate is the detector's score


_KINECT_V1 = (
    "left_shoulder left_elbow left_wrist left_hand right_shoulder right_elbow right_wrist right_hand left_hip left_knee "
    "left_ankle left_foot right_hip right_knee right_ankle right_foot"
)
_SMPL_BODY = (
    "pelvis left_hip right_hip spine1 left_knee right_knee spine2 left_ankle right_ankle spine3 left_foot right_foot neck "
    "left_collar right_collar head left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist"
)
_SMPL_BONES = (
    "1-0 2-0 3-0 4-1 5-2 6-3 7-4 8-5 9-6 10-7 11-8 12-9 13-9 14-9 15-12 16-13 17-14 18-16 19-17 20-18 21-19"
)

TABLES: dict[str, Table] = {
    # NTU RGB+D and KIMORE: Kinect v2.
    "ntu25": Table(
        f"spine_base spine_mid neck head {_KINECT_V1} spine_shoulder left_hand_tip left_thumb right_hand_tip right_thumb",
        "0-1 1-20 2-20 3-2 4-20 5-4 6-5 7-6 8-20 9-8 10-9 11-10 0-12 13-12 14-13 15-14 "
        "0-16 17-16 18-17 19-18 21-7 22-7 23-11 24-11",
        20,
    ),
    # Human3.6M as Kinetic-GAN has it: without the nose.
    "h36m16": Table(
        "pelvis right_hip right_knee right_ankle left_hip left_knee left_ankle spine thorax head "
        "left_shoulder left_elbow left_wrist right_shoulder right_elbow right_wrist",
        "1-2 2-3 0-1 4-5 5-6 0-4 0-7 7-8 8-9 8-10 10-11 11-12 8-13 13-14 14-15",
        8,
        always_kept=(9,),
    ),
    # NW-UCLA: Kinect v1.
    "ucla20": Table(
        f"hip_center spine shoulder_center head {_KINECT_V1}",
        "0-1 1-2 3-2 4-2 5-4 6-5 7-6 8-2 9-8 10-9 11-10 12-0 13-12 14-13 15-14 16-0 17-16 18-17 19-18",
        2,
    ),
    # Human3.6M as VideoPose3D and MotionBERT have it.
    "h36m17": Table(
        "pelvis right_hip right_knee right_ankle left_hip left_knee left_ankle spine thorax nose head "
        "left_shoulder left_elbow left_wrist right_shoulder right_elbow right_wrist",
        "1-0 2-1 3-2 4-0 5-4 6-5 7-0 8-7 9-8 10-9 11-8 12-11 13-12 14-8 15-14 16-15",
        8,
    ),
    # HRNet, ViTPose, YOLO and all others that are trained on COCO; the tree is pyskl's.
    "coco17": Table(
        "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow left_wrist "
        "right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle",
        "1-0 2-0 3-1 4-2 5-0 6-0 7-5 8-6 9-7 10-8 11-5 12-6 13-11 14-12 15-13 16-14",
        0,
        flat=True,
    ),
    "openpose18": Table(
        "nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist right_hip right_knee "
        "right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear",
        "0-1 2-1 3-2 4-3 5-1 6-5 7-6 8-2 9-8 10-9 11-5 12-11 13-12 14-0 15-0 16-14 17-15",
        1,
        flat=True,
    ),
    # BODY_25
    "openpose25": Table(
        "nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist mid_hip right_hip right_knee "
        "right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear left_big_toe left_small_toe "
        "left_heel right_big_toe right_small_toe right_heel",
        "0-1 2-1 3-2 4-3 5-1 6-5 7-6 8-1 9-8 10-9 11-10 12-8 13-12 14-13 15-0 16-0 17-15 18-16 19-14 20-19 21-14 "
        "22-11 23-22 24-11",
        1,
        flat=True,
    ),
    # MediaPipe Pose (BlazePose)
    "mediapipe33": Table(
        "nose left_eye_inner left_eye left_eye_outer right_eye_inner right_eye right_eye_outer left_ear right_ear "
        "mouth_left mouth_right left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist left_pinky "
        "right_pinky left_index right_index left_thumb right_thumb left_hip right_hip left_knee right_knee left_ankle "
        "right_ankle left_heel right_heel left_foot_index right_foot_index",
        "1-0 2-1 3-2 7-3 4-0 5-4 6-5 8-6 9-0 10-0 11-0 12-0 13-11 15-13 17-15 19-15 21-15 14-12 16-14 18-16 20-16 22-16 "
        "23-11 24-12 25-23 27-25 29-27 31-27 26-24 28-26 30-28 32-28",
        0,
    ),
    # SMPL's body without hands, as HumanML3D and AMASS's joints have it; and with them
    "smpl22": Table(_SMPL_BODY, _SMPL_BONES, 9),
    "smpl24": Table(f"{_SMPL_BODY} left_hand right_hand", f"{_SMPL_BONES} 22-20 23-21", 9),
    # UI-PRMD as its Kinect recorded it
    "uiprmd22": Table(
        "waist spine chest neck head head_tip left_collar left_upper_arm left_forearm left_hand right_collar "
        "right_upper_arm right_forearm right_hand left_upper_leg left_lower_leg left_foot left_toes right_upper_leg "
        "right_lower_leg right_foot right_toes",
        "1-0 2-1 3-2 4-3 5-4 6-2 7-6 8-7 9-8 10-2 11-10 12-11 13-12 14-0 15-14 16-15 17-16 18-0 19-18 20-19 21-20",
        2,
    ),
}
