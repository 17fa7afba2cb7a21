"""A body for synthetic motion: bone lengths, a pose over time, and the NTU-25 joints that follow from it.

Shapes: T frames. Body axes: x to the body's own left, y up, z forward; metres; the floor is y = 0. Hands and feet are
placed, elbows and knees follow (two-bone inverse kinematics), so bones never change length and joints bend one way.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from kgan_ray.skeleton import NTU25

Array = np.ndarray
SIDES = {"left": 1.0, "right": -1.0}
ANKLE_HEIGHT = 0.08
_INDEX = {name: index for index, name in enumerate(NTU25.joints)}


@dataclass(frozen=True)
class Body:
    """Bone lengths in metres; the defaults are a person of 1.70 m."""

    height: float = 1.0  # factor on everything
    legs: float = 1.0  # further factor on thighs and shins
    arms: float = 1.0

    @property
    def thigh(self) -> float:
        return 0.42 * self.height * self.legs

    @property
    def shin(self) -> float:
        return 0.41 * self.height * self.legs

    @property
    def leg(self) -> float:
        """Return the length from hip to ankle."""
        return self.thigh + self.shin

    @property
    def upper_arm(self) -> float:
        return 0.29 * self.height * self.arms

    @property
    def forearm(self) -> float:
        return 0.25 * self.height * self.arms

    @property
    def arm(self) -> float:
        """Return the length from shoulder to wrist."""
        return self.upper_arm + self.forearm

    @property
    def standing(self) -> float:
        """Return the height of the pelvis with nearly straight legs."""
        return ANKLE_HEIGHT + 0.985 * self.leg + 0.04 * self.height


def resting(out: float, up: float, forward: float, frames: int) -> Array:
    """Repeat one place in every frame: (T, 3)."""
    return np.tile(np.array([out, up, forward]), (frames, 1))


@dataclass
class Pose:
    """What the body does, per frame. Built standing at ease; actions change it."""

    frames: int
    body: Body
    pelvis: Array = field(init=False)  # (T, 3)
    pitch: Array = field(init=False)  # (T,) radians that the trunk leans forward
    roll: Array = field(init=False)  # (T,) to the body's left
    twist: Array = field(init=False)  # (T,) of the shoulders to the body's left
    nod: Array = field(init=False)  # (T,) of the head, forward
    hands: dict[str, Array] = field(
        init=False
    )  # side -> (T, 3) wrist from shoulder: out, up, forward, in arm lengths
    feet: dict[str, Array] = field(init=False)  # side -> (T, 3) ankle: out, up, forward, metres from the start
    elbows: dict[str, Array] = field(init=False)  # side -> (3,) where the elbow points: out, up, forward

    def __post_init__(self) -> None:
        frames, body = self.frames, self.body
        self.pelvis = resting(0.0, body.standing, 0.0, frames)
        self.pitch, self.roll, self.twist, self.nod = (np.zeros(frames) for _ in range(4))
        self.hands = {side: resting(0.1, -0.965, 0.08, frames) for side in SIDES}
        self.feet = {side: resting(0.11 * body.height, ANKLE_HEIGHT, 0.0, frames) for side in SIDES}
        self.elbows = {side: np.array([0.5, -0.2, -1.0]) for side in SIDES}

    def joints(self) -> Array:
        """Place the joints: (T, 25, 3), in body axes."""
        body, h = self.body, self.body.height
        out = np.empty((self.frames, NTU25.num_joints, 3))

        def put(name: str, place: Array) -> Array:
            out[:, _INDEX[name]] = place
            return place

        trunk = _trunk_axes(self.pitch, self.roll, self.twist)
        hips = _trunk_axes(0.3 * self.pitch, 0.3 * self.roll, 0.2 * self.twist)
        base = put("spine_base", self.pelvis)
        mid = put("spine_mid", base + hips[1] * 0.24 * h)
        shoulders = put("spine_shoulder", mid + trunk[1] * 0.25 * h)
        neck = put("neck", shoulders + trunk[1] * 0.07 * h)
        head = _trunk_axes(self.pitch + self.nod, self.roll, self.twist)
        put("head", neck + head[1] * 0.15 * h)
        for side, sign in SIDES.items():
            x, y, z = trunk
            shoulder = put(f"{side}_shoulder", shoulders + x * sign * 0.17 * h - y * 0.04 * h)
            reach = self.hands[side] * body.arm
            target = shoulder + x * sign * reach[:, :1] + y * reach[:, 1:2] + z * reach[:, 2:]
            ex, ey, ez = self.elbows[side]
            pole = x * sign * ex + y * ey + z * ez
            elbow, wrist = two_bones(shoulder, target, body.upper_arm, body.forearm, pole)
            put(f"{side}_elbow", elbow)
            put(f"{side}_wrist", wrist)
            along = unit(wrist - elbow)
            put(f"{side}_hand", wrist + along * 0.07 * h)
            put(f"{side}_hand_tip", wrist + along * 0.15 * h)
            put(f"{side}_thumb", wrist + along * 0.08 * h + unit(z - along * dot(z, along) + 1e-3 * y) * 0.04 * h)

            hip = put(f"{side}_hip", base + hips[0] * sign * 0.085 * h - hips[1] * 0.04 * h)
            foot = self.feet[side] * np.array([sign, 1.0, 1.0])
            forward = np.array([sign * 0.15, 0.0, 1.0])
            knee, ankle = two_bones(hip, foot, body.thigh, body.shin, np.broadcast_to(forward, hip.shape))
            put(f"{side}_knee", knee)
            put(f"{side}_ankle", ankle)
            put(f"{side}_foot", ankle + np.array([sign * 0.03, -0.5 * ANKLE_HEIGHT, 0.13]) * h)
        return out


def _trunk_axes(pitch: Array, roll: Array, twist: Array) -> tuple[Array, Array, Array]:
    """Return the trunk's left, up and forward directions, each (T, 3): twisted about y, then leaning."""
    cp, sp, cr, sr, ct, st = (f(angle) for angle in (pitch, roll, twist) for f in (np.cos, np.sin))
    up = np.stack([sr, cp * cr, sp * cr], axis=1)
    left = np.stack([ct, np.zeros_like(ct), -st], axis=1)
    left = unit(left - up * dot(left, up))
    return left, up, np.cross(left, up)


def two_bones(start: Array, target: Array, first: float, second: float, pole: Array) -> tuple[Array, Array]:
    """Place the middle and the end, each (T, 3), of two bones from `start` towards `target`, bent to the side of `pole`.

    A target out of reach is approached as far as the bones go.
    """
    way = target - start
    distance = np.linalg.norm(way, axis=1, keepdims=True)
    along = way / np.maximum(distance, 1e-9)
    distance = np.clip(distance, abs(first - second) + 0.02, 0.998 * (first + second))
    before = (first**2 - second**2 + distance**2) / (2 * distance)
    aside = np.sqrt(np.maximum(first**2 - before**2, 0.0))
    bend = unit(pole - along * dot(pole, along))
    return start + along * before + bend * aside, start + along * distance


def unit(vectors: Array) -> Array:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def dot(a: Array, b: Array) -> Array:
    return (a * b).sum(axis=-1, keepdims=True)
