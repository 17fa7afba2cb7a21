"""Synthetic motion: labelled recordings of a kinematic body, as a depth camera would give them.

A recording follows from (index, seed) alone. People differ in size and proportions, recordings in pace, size of the
movement, phase, handedness, place and heading; three cameras look from -45, 0 and 45 degrees, as NTU RGB+D's do, whose
numbering of setups, cameras, subjects and replications is used, so that its splits work.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kgan_ray.data.recording import Recording
from kgan_ray.data.synthetic.actions import ACTION_CLASSES, Manner
from kgan_ray.data.synthetic.body import Array, Body, Pose
from kgan_ray.skeleton import NTU25

ACTIONS: tuple[str, ...] = tuple(action.name for action in ACTION_CLASSES)
NUM_SUBJECTS = 40
CAMERA_ANGLES = {1: 0.0, 2: 45.0, 3: -45.0}  # degrees about the vertical
CAMERA_HEIGHT = 0.9  # metres above the floor: a joint at that height has y = 0
JITTER = 0.004  # metres, of a joint that the camera sees well
_BODY_STREAM, _RECORDING_STREAM = 0, 1  # of the random numbers that a seed gives
_MIRRORED = np.array(
    [
        NTU25.joints.index(name.replace("left", "?").replace("right", "left").replace("?", "right"))
        for name in NTU25.joints
    ]
)
_HARD_TO_SEE = np.array(
    [2.5 if ("hand" in name or "thumb" in name or "foot" in name) else 1.0 for name in NTU25.joints]
)


def synthesise(index: int, seed: int) -> Recording:
    """Make recording number `index` of the seed; labels take turns, so every multiple of the actions is balanced."""
    label = index % len(ACTIONS)
    random = np.random.default_rng([seed, _RECORDING_STREAM, index])
    setup, camera, subject, replication = _ids(index // len(ACTIONS))
    action = ACTION_CLASSES[label]
    manner = Manner(
        size=float(random.uniform(0.8, 1.12)), pace=float(random.uniform(0.8, 1.25)), phase=float(random.random())
    )
    pose = Pose(round(action.frames / manner.pace), body_of(subject, seed))
    action.act(pose, manner)
    _sway(pose, random)
    joints = pose.joints()
    if _is_left_handed(subject, seed):
        joints = joints[:, _MIRRORED] * np.array([-1.0, 1.0, 1.0])
    motion = _seen(joints, CAMERA_ANGLES[camera], random)
    return Recording(
        name=f"S{setup:03}C{camera:03}P{subject:03}R{replication:03}A{label + 1:03}",
        label=label,
        setup=setup,
        camera=camera,
        subject=subject,
        replication=replication,
        num_frames=len(motion),
        num_bodies=1,
        motion=motion,
    )


def _ids(number: int) -> tuple[int, int, int, int]:
    """Return setup, camera, subject and replication of an action's recording of that number: never the same twice.

    All subjects and cameras occur early, so that few recordings already make every split.
    """
    block, rest = divmod(number, NUM_SUBJECTS * len(CAMERA_ANGLES) * 2)
    round_ = rest // NUM_SUBJECTS
    subject = 1 + 7 * rest % NUM_SUBJECTS
    camera = 1 + (rest + round_) % len(CAMERA_ANGLES)
    setup = 1 + (rest + 3 * block) % 17 + 17 * (block // 17)
    return setup, camera, subject, 1 + round_ // len(CAMERA_ANGLES)


def body_of(subject: int, seed: int) -> Body:
    """Return the body of a subject, the same in all its recordings."""
    random = np.random.default_rng([seed, _BODY_STREAM, subject])
    return Body(
        height=float(random.uniform(0.88, 1.12)),
        legs=float(random.uniform(0.96, 1.05)),
        arms=float(random.uniform(0.96, 1.05)),
    )


def _is_left_handed(subject: int, seed: int) -> bool:
    return bool(np.random.default_rng([seed, _BODY_STREAM, subject, 1]).random() < 0.2)


def _sway(pose: Pose, random: np.random.Generator) -> None:
    """Add slow small movements of pelvis, trunk and hands: nobody stands still."""
    seconds = np.arange(pose.frames) / 30

    def wave(amplitude: float) -> Array:
        rate, phase = random.uniform(0.2, 0.6), random.uniform(0, 2 * np.pi)
        return amplitude * np.sin(2 * np.pi * rate * seconds + phase)

    pose.pelvis[:, 0] += wave(0.012)
    pose.pelvis[:, 2] += wave(0.012)
    pose.pitch += wave(0.03) + random.normal(0, 0.03)
    pose.roll += wave(0.02) + random.normal(0, 0.015)
    pose.twist += wave(0.04) + random.normal(0, 0.04)
    for side in pose.hands:
        pose.hands[side] = pose.hands[side] + np.stack([wave(0.02), wave(0.01), wave(0.03)], axis=1)


def _seen(joints: Array, degrees: float, random: np.random.Generator) -> Array:
    """Turn body axes into a camera's: x to the camera's left, y up, z away from it; with the sensor's jitter. float32."""
    heading = np.deg2rad(180.0 + degrees + random.normal(0.0, 8.0))  # 180: facing the camera
    c, s = np.cos(heading), np.sin(heading)
    turned = joints @ np.array([[c, 0.0, -s], [0.0, 1.0, 0.0], [s, 0.0, c]])
    place = np.array([random.uniform(-0.4, 0.4), -CAMERA_HEIGHT, random.uniform(2.8, 3.8)])
    noise = random.normal(0.0, JITTER, joints.shape)
    noise[1:] = 0.6 * noise[1:] + 0.6 * noise[:-1]  # a sensor's errors last longer than a frame
    return (turned + place + noise * _HARD_TO_SEE[:, None]).astype(np.float32)


def write_skeleton_file(recording: Recording, path: Path | str) -> None:
    """Write a recording of NTU-25 as a `.skeleton` file: text, values to seven digits, CRLF line ends as NTU's."""
    lines = [str(recording.num_frames)]
    for frame in recording.motion:
        lines += ["1", "72057594037931691 0 1 1 1 1 0 0.0 0.0 2", str(NTU25.num_joints)]
        for x, y, z in frame.tolist():
            # After the position: where depth and colour cameras see it (pixels), orientation, tracking state.
            u, v = 256 - 366 * x / z, 212 - 366 * y / z
            lines.append(f"{x:.7g} {y:.7g} {z:.7g} {u:.4f} {v:.4f} {u * 3.3:.3f} {v * 2.9:.3f} 0 0 0 1 2")
    Path(path).write_text("\r\n".join(lines) + "\r\n", encoding="ascii", newline="")
