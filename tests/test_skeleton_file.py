"""The reader of `.skeleton` text: known values, agreement with a plain reader, and what it refuses."""

import zipfile

import numpy as np
import pytest

from helpers.other_forms import genuine_recordings
from helpers.recordings import BODY, REAL_DATA, moving_body, one_body_text, skeleton_text
from kgan_ray.benchmarks.reading import plain_bodies
from kgan_ray.data.recording import RejectedRecording
from kgan_ray.data.sources.archive import list_files, read_file
from kgan_ray.data.sources.skeleton_file import MAX_FRAMES, parse_skeleton


@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_every_value_of_a_small_file_is_read(end):
    motion = moving_body(3)
    bodies = parse_skeleton(one_body_text(motion, end).encode())
    assert (bodies.num_frames, bodies.num_bodies, bodies.motion_second) == (3, 1, None)
    assert bodies.motion.dtype == np.float32
    assert np.array_equal(bodies.motion, motion)


@pytest.mark.parametrize("tail", ["", "\r\n\r\n", "  \n"])
def test_the_end_of_the_file_may_look_anyhow(tail):
    motion = moving_body(2)
    assert np.array_equal(parse_skeleton((one_body_text(motion).rstrip() + tail).encode()).motion, motion)


def test_irregular_spaces_are_read_like_regular_ones():
    motion = moving_body(2)
    text = one_body_text(motion).replace(" 250.1", "   250.1").replace(" 500.4", "\t500.4")
    assert np.array_equal(parse_skeleton(text.encode()).motion, motion)


def test_exponents_and_signs_are_numbers():
    motion = moving_body(1)
    text = one_body_text(motion)
    first = text.splitlines()[4].split()
    text = text.replace(" ".join(first[:3]), "-1.5e-05 +2 .25", 1)
    assert parse_skeleton(text.encode()).motion[0, 0].tolist() == pytest.approx([-1.5e-05, 2.0, 0.25])


def test_the_body_that_moves_most_comes_first_and_absent_frames_are_zeros():
    calm, lively = moving_body(4, seed=1, size=0.001), moving_body(4, seed=2, size=0.5)
    frames = [
        [("1", calm[0])],
        [],
        [("1", calm[2]), ("2", lively[2])],
        [("2", lively[3]), ("1", calm[3])],  # ids, not places, tell bodies apart
    ]
    bodies = parse_skeleton(skeleton_text(frames).encode())
    assert bodies.num_bodies == 2
    assert bodies.motion_second is not None
    assert np.array_equal(bodies.motion[2:], lively[2:])
    assert not bodies.motion[:2].any()
    assert np.array_equal(bodies.motion_second[[0, 2, 3]], calm[[0, 2, 3]])
    assert not bodies.motion_second[1].any()


def test_a_third_body_is_counted_but_not_kept():
    frames = [[(str(n), moving_body(1, seed=n)[0]) for n in range(3)]] * 2
    assert parse_skeleton(skeleton_text(frames).encode()).num_bodies == 3


def test_genuine_files_agree_with_a_plain_reader():
    path = REAL_DATA / "ntu_sample_skeletons.zip"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    whole = 0
    for name, place in list_files(path)[::4]:
        if not name.endswith(".skeleton"):
            continue
        data = read_file(path, place)
        try:
            bodies = parse_skeleton(data)
        except RejectedRecording:
            continue
        found = plain_bodies(data.decode())
        assert bodies.num_bodies == len(found)
        assert any(np.array_equal(bodies.motion, motion) for motion in found.values()), name
        if bodies.motion_second is not None:
            assert any(np.array_equal(bodies.motion_second, motion) for motion in found.values()), name
        whole += 1
    assert whole > 30


GOOD = one_body_text(moving_body(3))


def with_line(number, text):
    lines = GOOD.split("\r\n")
    lines[number] = text
    return "\r\n".join(lines).encode()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b" \r\n \n", "the file is empty"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "the file is not text"),
        (GOOD.encode() + "é".encode("latin-1"), "the file is not text"),
        (GOOD.encode("utf-16"), "the file is not text"),
        (GOOD[: len(GOOD) // 2].encode(), "its header promises 3 frames and it ends in frame 2"),
        (with_line(0, "4"), "its header promises 4 frames and it ends after 3"),
        (with_line(0, "2"), "its header promises 2 frames and more text follows them"),
        (with_line(0, "0"), f"its header promises 0 frames; 1 to {MAX_FRAMES} are accepted"),
        (with_line(0, "999999999"), f"its header promises 999999999 frames; 1 to {MAX_FRAMES} are accepted"),
        (with_line(0, "9" * 5000), f"line 1: expected the number of frames, found {'9' * 30!r}"),
        (with_line(0, "-3"), "line 1: expected the number of frames, found '-3'"),
        (with_line(1, "x"), "line 2: expected the number of bodies, found 'x'"),
        (with_line(1, "123456789"), f"line 31: expected the number of joints, found '{BODY} 0 1 1 0 0 0 '"),
        (with_line(3, "24"), "frame 1: 24 joints, expected 25"),
        (with_line(3, "many"), "line 4: expected the number of joints, found 'many'"),
        (with_line(7, "0.1 0.2"), "line 8: 2 values of a joint, expected 12"),
        (with_line(7, "0.1 0.2 metre" + " 0" * 9), "line 8: '0.1 0.2 metre' are not three numbers"),
        (with_line(40, "0.1 nan 2" + " 0" * 9), "frame 2: a coordinate is not finite or beyond 1000 m"),
        (with_line(40, "0.1 inf 2" + " 0" * 9), "frame 2: a coordinate is not finite or beyond 1000 m"),
        (with_line(40, "0.1 1e300 2" + " 0" * 9), "frame 2: a coordinate is not finite or beyond 1000 m"),
        (b"2\r\n0\r\n0\r\n", "no frame holds a body"),
    ],
)
def test_a_bad_file_is_set_aside_with_its_reason(data, reason):
    with pytest.raises(RejectedRecording) as refusal:
        parse_skeleton(data)
    assert reason in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_every_cut_of_a_file_is_set_aside():
    text = one_body_text(moving_body(2)).encode()
    whole = len(text.rstrip())
    for length in range(0, whole - 20, 97):  # the last value alone cannot tell that digits are missing
        with pytest.raises(RejectedRecording):
            parse_skeleton(text[:length])


def test_scrambled_bytes_are_read_or_set_aside_but_never_crash():
    random = np.random.default_rng(0)
    text = np.frombuffer(GOOD.encode(), np.uint8)
    for _ in range(300):
        scrambled = text.copy()
        places = random.integers(len(text), size=random.integers(1, 20))
        scrambled[places] = random.integers(1, 128, size=len(places))
        try:
            bodies = parse_skeleton(scrambled.tobytes())
        except RejectedRecording:
            continue
        assert np.isfinite(bodies.motion).all()
        assert bodies.motion.shape == (bodies.num_frames, 25, 3)


def test_body_ids_are_kept_apart_from_flags():
    frames = [[(BODY, moving_body(1)[0])], [(BODY + "2", moving_body(1)[0] + 2)]]
    assert parse_skeleton(skeleton_text(frames).encode()).num_bodies == 2


def with_changed_id(text, at, other=BODY + "9"):
    """Text of a recording in which every body's tracking id ends in another digit from a frame on."""
    lines, line, out = text.splitlines(), 1, []
    out.append(lines[0])
    for frame in range(int(lines[0])):
        bodies = int(lines[line])
        out.append(lines[line])
        line += 1
        for _ in range(bodies):
            name, rest = lines[line].split(" ", 1)
            out += [f"{other if frame >= at else name} {rest}", *lines[line + 1 : line + 27]]
            line += 27
    return "\n".join(out) + "\n"


def walking(num_frames, start=0.0):
    """A body that trembles by centimetres and walks three of them a frame."""
    steps = np.arange(num_frames)[:, None, None] * np.array([0.03, 0, 0])
    return (moving_body(num_frames, seed=1, size=0.02) + steps + start).astype(np.float32)


def test_a_person_whose_tracking_id_changes_stays_one():
    motion = walking(40)
    text = skeleton_text([[(BODY, joints)] for joints in motion])
    for at in (1, 16, 39):
        bodies = parse_skeleton(with_changed_id(text, at).encode())
        assert np.array_equal(bodies.motion, parse_skeleton(text.encode()).motion)
        assert (bodies.num_bodies, bodies.joined_tracks, bodies.motion_second) == (1, 1, None)


def test_a_person_who_was_lost_for_a_while_is_found_again():
    motion = walking(40)
    frames = [
        [] if 15 <= t < 25 else [(BODY if t < 15 else BODY + "2", joints)] for t, joints in enumerate(motion)
    ]
    bodies = parse_skeleton(skeleton_text(frames).encode())
    assert (bodies.num_bodies, bodies.joined_tracks) == (1, 1)
    assert not bodies.motion[15:25].any()
    assert bodies.motion[25:].any(axis=(1, 2)).all()


def test_persons_who_are_there_together_or_apart_stay_two():
    one, other = walking(20), walking(20, start=0.1)
    together = [
        [(BODY, one[t]), (BODY + "2", other[t])] if t < 11 else [(BODY + "2", other[t])] for t in range(20)
    ]
    apart = [[(BODY, one[t])] if t < 10 else [(BODY + "2", other[t] + 1.5)] for t in range(20)]
    for frames in (together, apart):
        bodies = parse_skeleton(skeleton_text(frames).encode())
        assert (bodies.num_bodies, bodies.joined_tracks) == (2, 0)


def test_two_persons_who_both_change_their_ids_stay_two():
    one, other = walking(20), walking(20, start=1.2)
    frames = [
        [(f"{BODY}{t // 8}", one[t]), (f"{BODY}{t // 8}5", other[t])] for t in range(20)
    ]  # ids change at frames 8 and 16
    bodies = parse_skeleton(skeleton_text(frames).encode())
    assert (bodies.num_bodies, bodies.joined_tracks) == (2, 4)
    assert {tuple(body[3, 0]) for body in (bodies.motion, bodies.motion_second)} == {
        tuple(one[3, 0]),
        tuple(other[3, 0]),
    }
    for body in (bodies.motion, bodies.motion_second):
        assert np.abs(np.diff(body, axis=0)).max() < 0.5  # nobody jumps to the other


def test_genuine_recordings_with_a_changed_id_are_as_without(tmp_path):
    recorded = genuine_recordings(30)
    if recorded is None:
        pytest.skip("no genuine recordings here")
    alone = [one.name for one in recorded if len(one.bodies) == 1][:12]
    with zipfile.ZipFile(REAL_DATA / "ntu_sample_skeletons.zip") as archive:
        for name in alone:
            text = archive.read(f"nturgb+d_skeletons/{name}.skeleton").decode()
            expected = parse_skeleton(text.encode())
            bodies = parse_skeleton(with_changed_id(text, int(expected.num_frames * 0.4)).encode())
            assert np.array_equal(bodies.motion, expected.motion)
            assert (bodies.num_bodies, bodies.joined_tracks) == (1, 1)
    assert len(alone) == 12
