"""Actions for the synthetic body, each a function that changes a pose standing at ease.

All are told for a right-handed person; left-handed ones are mirrored afterwards. Shapes: T frames.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kgan_ray.data.synthetic.body import ANKLE_HEIGHT, Array, Pose, resting

FRAMES_PER_SECOND = 30
ELBOW_DOWN = np.array([0.3, -1.0, -0.3])
ELBOW_OUT = np.array([1.0, -0.4, -0.2])


@dataclass(frozen=True)
class Manner:
    """How an action is done: `size` of the movement, `pace` (1 = usual), `phase` in [0, 1) of what repeats."""

    size: float
    pace: float
    phase: float


Action = Callable[[Pose, Manner], None]


def ease(t: Array, start: float, end: float) -> Array:
    """Rise smoothly from 0 before `start` to 1 after `end`."""
    x = np.clip((t - start) / (end - start), 0.0, 1.0)
    return x * x * (3 - 2 * x)


def there_and_back(t: Array, start: float, full: float, until: float, end: float) -> Array:
    """Rise from 0 to 1, which lasts from `full` to `until`, and fall to 0 again."""
    return ease(t, start, full) - ease(t, until, end)


def towards(here: Array, there: tuple[float, float, float], weight: Array) -> Array:
    """Move `here`, (T, 3), by a weight (T,) from 0 to 1 to a fixed place."""
    return here + (np.array(there) - here) * weight[:, None]


def progress(pose: Pose) -> Array:
    """Count from 0 at the first frame to 1 at the last: (T,)."""
    return np.linspace(0.0, 1.0, pose.frames)


def beats(pose: Pose, manner: Manner, per_second: float) -> Array:
    """Return the phase in radians, (T,), of something that repeats."""
    seconds = np.arange(pose.frames) / FRAMES_PER_SECOND
    return 2 * np.pi * (manner.phase + per_second * manner.pace * seconds)


def walking(pose: Pose, manner: Manner) -> None:
    turn = beats(pose, manner, 0.9)
    half_step = 0.30 * manner.size * pose.body.leg / 0.83
    stance = 0.6  # share of a cycle that a foot is on the floor
    speed = 2 * half_step * 0.9 * manner.pace / stance / FRAMES_PER_SECOND
    travelled = speed * (np.arange(pose.frames) - pose.frames / 2)
    for side, offset in (("left", 0.0), ("right", 0.5)):
        cycle = (turn / (2 * np.pi) + offset) % 1.0
        on_floor = cycle < stance
        swing = np.clip((cycle - stance) / (1 - stance), 0.0, 1.0)
        forward = np.where(on_floor, half_step * (1 - 2 * cycle / stance), -half_step * np.cos(np.pi * swing))
        lift = np.where(on_floor, 0.0, 0.11 * manner.size * np.sin(np.pi * swing))
        pose.feet[side][:, 2] = forward + travelled
        pose.feet[side][:, 1] = ANKLE_HEIGHT + lift
        pose.hands[side][:, 2] = 0.05 - 0.42 * manner.size * np.cos(2 * np.pi * cycle - 0.6)
    pose.pelvis[:, 1] = ANKLE_HEIGHT + 0.95 * pose.body.leg + 0.04 + 0.012 * np.cos(2 * turn)
    pose.pelvis[:, 2] = travelled
    pose.twist += 0.12 * manner.size * np.cos(turn)
    pose.pitch += 0.06


def waving(pose: Pose, manner: Manner) -> None:
    t = progress(pose)
    up = there_and_back(t, 0.02, 0.22, 0.82, 0.98)
    swing = 0.30 * manner.size * np.sin(beats(pose, manner, 1.7))
    raised = resting(0.42, 0.62, 0.22, pose.frames)
    raised[:, 0] += swing
    raised[:, 1] -= 0.5 * np.abs(swing)
    pose.hands["right"] += (raised - pose.hands["right"]) * up[:, None]
    pose.elbows["right"] = ELBOW_OUT


def clapping(pose: Pose, manner: Manner) -> None:
    up = there_and_back(progress(pose), 0.0, 0.18, 0.86, 1.0)
    gap = 0.5 - 0.5 * np.cos(beats(pose, manner, 1.8))
    for side in pose.hands:
        held = resting(0.0, -0.22, 0.62, pose.frames)
        held[:, 0] = -0.28 + 0.42 * manner.size * gap
        pose.hands[side] += (held - pose.hands[side]) * up[:, None]
        pose.elbows[side] = ELBOW_DOWN + np.array([0.6, 0.0, 0.0])


def kicking(pose: Pose, manner: Manner) -> None:
    t, h = progress(pose), pose.body.height
    back = there_and_back(t, 0.08, 0.3, 0.32, 0.5)
    kick = there_and_back(t, 0.34, 0.52, 0.56, 0.82)
    foot = pose.feet["right"]
    foot[:, 2] += (-0.32 * back + 0.72 * manner.size * kick) * h
    foot[:, 1] += (0.18 * back + 0.52 * manner.size * kick) * h
    pose.pelvis[:, 0] += 0.06 * np.maximum(back, kick)
    pose.pelvis[:, 1] -= 0.03 * np.maximum(back, kick)
    pose.pitch += 0.12 * back - 0.22 * kick
    pose.hands["left"] = towards(pose.hands["left"], (0.55, -0.5, 0.5), np.maximum(0.4 * back, kick))
    pose.hands["right"] = towards(pose.hands["right"], (0.6, -0.6, -0.35), np.maximum(0.4 * back, kick))


def jumping_up(pose: Pose, manner: Manner) -> None:
    t, h = progress(pose), pose.body.height
    crouch = there_and_back(t, 0.05, 0.28, 0.32, 0.44) + 0.6 * there_and_back(t, 0.62, 0.7, 0.72, 0.9)
    air = np.clip((t - 0.42) / 0.24, 0.0, 1.0)
    rise = 0.38 * manner.size * h * 4 * air * (1 - air)
    pose.pelvis[:, 1] += rise - 0.24 * h * crouch
    pose.pelvis[:, 2] -= 0.07 * crouch
    for side in pose.feet:
        pose.feet[side][:, 1] += rise
        swung = ease(t, 0.3, 0.46) - ease(t, 0.6, 0.85)
        pose.hands[side] = towards(pose.hands[side], (0.2, -0.75, -0.6), np.clip(crouch - swung, 0, 1))
        pose.hands[side] = towards(pose.hands[side], (0.25, 0.9, 0.25), swung)
    pose.pitch += 0.55 * crouch


def _seat(pose: Pose, seated: Array, manner: Manner) -> None:
    """Return how far the body sits, (T,): 1 = on a chair behind the feet."""
    h = pose.body.height
    moving = 4 * seated * (1 - seated)
    pose.pelvis[:, 1] += (ANKLE_HEIGHT + pose.body.shin - pose.pelvis[:, 1] + 0.06) * seated
    pose.pelvis[:, 2] -= 0.42 * h * seated
    pose.pitch += 0.75 * manner.size * moving + 0.04 * seated
    for side in pose.hands:
        pose.hands[side] = towards(pose.hands[side], (0.02, -0.72, 0.52), seated)


def sitting_down(pose: Pose, manner: Manner) -> None:
    _seat(pose, ease(progress(pose), 0.15, 0.72), manner)


def standing_up(pose: Pose, manner: Manner) -> None:
    _seat(pose, 1 - ease(progress(pose), 0.25, 0.8), manner)


def bowing(pose: Pose, manner: Manner) -> None:
    down = there_and_back(progress(pose), 0.08, 0.42, 0.6, 0.92)
    pose.pitch += 1.15 * manner.size * down
    pose.nod += 0.3 * down
    pose.pelvis[:, 2] -= 0.13 * down
    for side in pose.hands:
        pose.hands[side] = towards(pose.hands[side], (0.0, -0.8, 0.42), down)


def punching(pose: Pose, manner: Manner) -> None:
    guard = there_and_back(progress(pose), 0.0, 0.15, 0.88, 1.0)
    beat = beats(pose, manner, 0.95)
    for side, shift in (("right", 0.0), ("left", np.pi)):
        strike = np.clip(np.sin(beat + shift), 0.0, 1.0) ** 1.5
        held = resting(-0.1, 0.0, 0.42, pose.frames)
        held = towards(held, (-0.2, 0.02, 0.9 + 0.1 * manner.size), strike * min(1.0, manner.size))
        pose.hands[side] += (held - pose.hands[side]) * guard[:, None]
        pose.elbows[side] = ELBOW_DOWN
        pose.twist += (0.3 if side == "right" else -0.3) * strike * guard
    pose.feet["left"][:, 2] += 0.2 * guard
    pose.feet["right"][:, 2] -= 0.12 * guard
    pose.pelvis[:, 1] -= 0.05 * guard


def throwing(pose: Pose, manner: Manner) -> None:
    t = progress(pose)
    back = there_and_back(t, 0.1, 0.42, 0.46, 0.56)
    release = there_and_back(t, 0.46, 0.6, 0.66, 0.92)
    hand = towards(pose.hands["right"], (0.5, 0.45, -0.55), back)
    pose.hands["right"] = towards(hand, (-0.1, 0.1 + 0.2 * manner.size, 0.95), release)
    pose.hands["left"] = towards(pose.hands["left"], (0.3, -0.3, 0.7), back)
    pose.elbows["right"] = ELBOW_OUT
    pose.twist += -0.55 * manner.size * back + 0.5 * manner.size * release
    pose.pitch += -0.12 * back + 0.3 * release
    pose.feet["left"][:, 2] += 0.34 * ease(t, 0.3, 0.5) * pose.body.height
    pose.pelvis[:, 2] += 0.14 * release + 0.1 * ease(t, 0.3, 0.5)
    pose.pelvis[:, 1] -= 0.05 * ease(t, 0.3, 0.5)


def picking_up(pose: Pose, manner: Manner) -> None:
    t, h = progress(pose), pose.body.height
    down = there_and_back(t, 0.06, 0.42, 0.54, 0.9)
    pose.pelvis[:, 1] -= 0.40 * manner.size * h * down
    pose.pelvis[:, 2] -= 0.10 * h * down
    pose.pitch += 0.95 * down
    pose.nod += 0.2 * down
    pose.hands["right"] = towards(pose.hands["right"], (-0.05, -0.72, 0.66), down)
    lifted = ease(t, 0.6, 0.95)
    pose.hands["right"] = towards(pose.hands["right"], (-0.1, -0.35, 0.5), lifted)
    pose.hands["left"] = towards(pose.hands["left"], (0.1, -0.7, 0.2), down)


def arm_circles(pose: Pose, manner: Manner) -> None:
    out = there_and_back(progress(pose), 0.0, 0.15, 0.88, 1.0)
    turn = beats(pose, manner, 0.85)
    for side in pose.hands:
        circle = resting(0.8, 0.12, 0.0, pose.frames)
        circle[:, 1] += 0.55 * manner.size * np.sin(turn)
        circle[:, 2] += 0.55 * manner.size * np.cos(turn)
        pose.hands[side] += (circle - pose.hands[side]) * out[:, None]
        pose.elbows[side] = np.array([0.0, -1.0, -0.6])


@dataclass(frozen=True)
class ActionClass:
    """An action, its name, and its usual length in frames at 30 a second."""

    name: str
    act: Action
    frames: int


ACTION_CLASSES = (
    ActionClass("walking", walking, 70),
    ActionClass("waving", waving, 75),
    ActionClass("clapping", clapping, 65),
    ActionClass("kicking", kicking, 50),
    ActionClass("jumping up", jumping_up, 48),
    ActionClass("sitting down", sitting_down, 60),
    ActionClass("standing up", standing_up, 60),
    ActionClass("bowing", bowing, 70),
    ActionClass("punching", punching, 70),
    ActionClass("throwing", throwing, 55),
    ActionClass("picking up", picking_up, 75),
    ActionClass("arm circles", arm_circles, 75),
)
