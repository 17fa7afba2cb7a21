"""What the names of NTU RGB+D recordings say: setup, camera, subject, action; the published splits.

Sources: Shahroudy et al., CVPR 2016 (NTU-60); Liu et al., TPAMI 2019 (NTU-120).
"""

from __future__ import annotations

import re
from pathlib import Path

from kgan_ray.data.splits import SplitRule
from kgan_ray.settings import UserError
from kgan_ray.storage import describe

NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})")

ACTIONS: tuple[str, ...] = tuple(
    name.strip()
    for name in """
    drink water, eat meal, brush teeth, brush hair, drop, pick up, throw, sit down, stand up, clapping, reading,
    writing, tear up paper, put on jacket, take off jacket, put on a shoe, take off a shoe, put on glasses,
    take off glasses, put on a hat, take off a hat, cheer up, hand waving, kicking something, reach into pocket,
    hopping, jump up, phone call, play with phone, type on a keyboard, point to something, taking a selfie,
    check time, rub two hands, nod head, shake head, wipe face, salute, put palms together, cross hands in front,
    sneeze or cough, staggering, falling down, headache, chest pain, back pain, neck pain, nausea, fan self,
    punch or slap, kicking, pushing, pat on back, point finger, hugging, giving object, touch pocket,
    shaking hands, walking towards, walking apart,
    put on headphone, take off headphone, shoot at basket, bounce ball, tennis bat swing, juggle table tennis ball,
    hush, flick hair, thumb up, thumb down, make OK sign, make victory sign, staple book, counting money,
    cutting nails, cutting paper, snap fingers, open bottle, sniff, squat down, toss a coin, fold paper,
    ball up paper, play magic cube, apply cream on face, apply cream on hand, put on bag, take off bag,
    put object into bag, take object out of bag, open a box, move heavy objects, shake fist, throw up cap,
    capitulate, cross arms, arm circles, arm swings, run on the spot, butt kicks, cross toe touch, side kick,
    yawn, stretch oneself, blow nose, hit with object, wield knife, knock over, grab stuff, shoot with gun,
    step on foot, high-five, cheers and drink, carry object, take a photo, follow, whisper, exchange things,
    support somebody, rock-paper-scissors
    """.replace("\n", " ").split(",")
)

_TRAIN_SUBJECTS = (
    "1 2 4 5 8 9 13 14 15 16 17 18 19 25 27 28 31 34 35 38 45 46 47 49 50 52 53 54 55 56 57 58 59 70 74 78 80 81 "
    "82 83 84 85 86 89 91 92 93 94 95 97 98 100 103"
)
SPLITS: dict[str, SplitRule] = {
    # NTU-60's twenty training subjects are those of NTU-120 up to 40, so one list serves both.
    "xsub": SplitRule(column="subject", train=tuple(int(s) for s in _TRAIN_SUBJECTS.split())),
    "xview": SplitRule(column="camera", train=(2, 3)),
    "xset": SplitRule(column="setup", train=tuple(range(2, 33, 2))),
}


def parse_name(name: str) -> tuple[int, int, int, int, int] | None:
    """Return (setup, camera, subject, replication, action), all 1-based, or None if the name has another form."""
    match = NAME.fullmatch(name)
    if not match:
        return None
    setup, camera, subject, replication, action = (int(group) for group in match.groups())
    return setup, camera, subject, replication, action


def action_names(last_action: int) -> tuple[str, ...]:
    """Return the 60 class names of NTU-60, or all 120 where an action beyond the 60th occurs."""
    return ACTIONS[:60] if last_action <= 60 else ACTIONS


def read_missing_list(path: str | Path) -> frozenset[str]:
    """Read the recordings named anywhere in a published list of samples with missing skeletons. Raises UserError."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--missing-list {path}: cannot be read ({describe(error)})") from None
    names = frozenset(match.group() for match in NAME.finditer(text))
    if not names:
        raise UserError(f"--missing-list {path}: names no recording of the form S001C001P001R001A001")
    return names
