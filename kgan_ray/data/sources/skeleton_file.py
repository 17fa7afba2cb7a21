"""Reader of NTU RGB+D `.skeleton` text.

A file holds the frame count; per frame the body count; per body a line of 10 values (the first is its id), the
joint count and per joint a line of 12 values, of which x y z (metres) come first. Line ends may be CRLF.

Speed is why this looks as it does: a plain reader makes a Python object of each of some 30 000 values, of which
we need a quarter. Here numpy finds the separators, Python walks only the few lines that hold counts and ids, and
Arrow turns x y z to numbers. Arrow rounds correctly, so the values are those of Python's float().
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from kgan_ray.data.recording import RejectedRecording

NUM_JOINTS = 25
# Eleven minutes at 30 Hz; the longest genuine recordings last ten seconds.
MAX_FRAMES = 20_000
FARTHEST = 1000.0  # metres; a coordinate beyond is a broken file
_VALUES_PER_JOINT = 12
# The lines with a count, as they nearly always are: comparing bytes spares most of the parsing.
_COUNTS = {b"%d%s" % (count, end): count for count in range(10) for end in (b"", b"\r")}
_WHOLE_BODY = {b"%d%s" % (NUM_JOINTS, end) for end in (b"", b"\r")}


@dataclass(frozen=True)
class Bodies:
    """The bodies of a recording by motion energy, largest first; zeros in frames where a body was not seen."""

    num_frames: int
    num_bodies: int
    motion: np.ndarray  # float32 (T, 25, 3)
    motion_second: np.ndarray | None
    joined_tracks: int  # tracks that went on as another person's, who had changed the tracking id


def parse_skeleton(data: bytes) -> Bodies:
    """Parse the text of one file. Raises RejectedRecording with the reason if it is not a whole, finite recording."""
    if not data.strip():
        raise RejectedRecording("the file is empty")
    if not data.isascii() or b"\0" in data:
        raise RejectedRecording("the file is not text")
    text = _Text(data)
    sightings = _walk(text)
    if not sightings.first_line:
        raise RejectedRecording("no frame holds a body")
    lines = (np.array(sightings.first_line)[:, None] + np.arange(NUM_JOINTS)).ravel()
    joints = _coordinates(text, lines).reshape(-1, NUM_JOINTS, 3)
    if not np.abs(joints).max() <= FARTHEST:  # also where it is NaN
        bad = ~(np.abs(joints).max(axis=(1, 2)) <= FARTHEST)
        frame = sightings.frame[int(np.argmax(bad))] + 1
        raise RejectedRecording(f"frame {frame}: a coordinate is not finite or beyond {FARTHEST:g} m")
    return _by_energy(sightings, joints.astype(np.float32))


class _Text:
    """A file's bytes, and where its lines and words lie."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        characters = np.frombuffer(data, np.uint8)
        self.separators = np.flatnonzero(characters <= 32)  # space, CR, LF
        self.newlines = np.flatnonzero(characters.take(self.separators) == 10)  # as indices into separators
        self.ends: list[int] = self.separators[
            self.newlines
        ].tolist()  # a line begins after the end of the one before
        if not data.endswith(b"\n"):
            self.ends.append(len(data))

    def __len__(self) -> int:
        return len(self.ends)

    def line(self, number: int) -> bytes:
        return self.data[self.ends[number - 1] + 1 if number else 0 : self.ends[number]]

    def count(self, number: int, what: str) -> int:
        """Read the whole number >= 0 that is alone on a line."""
        word = self.line(number).strip()
        if not word.isdigit() or len(word) > 9:
            raise RejectedRecording(f"line {number + 1}: expected the {what}, found {word[:30].decode()!r}")
        return int(word)


@dataclass
class _Sightings:
    """Each body in each frame: the frame, the body's id, and the line of its first joint."""

    num_frames: int
    frame: list[int]
    body: list[bytes]
    first_line: list[int]


def _walk(text: _Text) -> _Sightings:
    """Follow the counts through the lines."""
    num_frames = text.count(0, "number of frames")
    if not 0 < num_frames <= MAX_FRAMES:
        raise RejectedRecording(f"its header promises {num_frames} frames; 1 to {MAX_FRAMES} are accepted")
    sightings = _Sightings(num_frames, [], [], [])
    data, ends, num_lines = text.data, text.ends, len(text)
    line = 1
    for frame in range(num_frames):
        if line >= num_lines:
            raise RejectedRecording(f"its header promises {num_frames} frames and it ends after {frame}")
        bodies = _COUNTS.get(data[ends[line - 1] + 1 : ends[line]], -1)
        if bodies < 0:
            bodies = text.count(line, "number of bodies")
        line += 1
        for _ in range(bodies):
            if line + 1 + NUM_JOINTS >= num_lines:
                raise RejectedRecording(
                    f"its header promises {num_frames} frames and it ends in frame {frame + 1}"
                )
            if data[ends[line] + 1 : ends[line + 1]] not in _WHOLE_BODY:
                joints = text.count(line + 1, "number of joints")
                if joints != NUM_JOINTS:
                    raise RejectedRecording(f"frame {frame + 1}: {joints} joints, expected {NUM_JOINTS}")
            sightings.frame.append(frame)
            sightings.body.append(data[ends[line - 1] + 1 : ends[line]].partition(b" ")[0])
            sightings.first_line.append(line + 2)
            line += 2 + NUM_JOINTS
    if line < num_lines and data[ends[line - 1] + 1 :].strip():
        raise RejectedRecording(f"its header promises {num_frames} frames and more text follows them")
    return sightings


def _coordinates(text: _Text, lines: np.ndarray) -> np.ndarray:
    """Read x y z of the given joint lines, float64 (n, 3)."""
    before = text.newlines[lines - 1]  # the line end before each joint line, as an index into separators
    last = int(lines[-1])
    after = text.newlines[lines] if last < len(text.newlines) else np.append(text.newlines[lines[:-1]], -1)
    width = int(after[0] - before[0])
    extra = 1 if text.data[text.ends[int(lines[0])] - 1 : text.ends[int(lines[0])]] == b"\r" else 0
    if after[-1] >= 0 and width == _VALUES_PER_JOINT + extra and bool((after - before == width).all()):
        edges = text.separators[before[:, None] + np.arange(4)]  # before x, after x, y and z
        try:
            return _numbers(text.data, edges)
        except pa.ArrowInvalid:
            pass  # doubled spaces, or no number: the plain way tells which
    return _plain_coordinates(text, lines)


def _numbers(data: bytes, edges: np.ndarray) -> np.ndarray:
    """Read the words between the four edges of each row, through an Arrow column: x, what follows, y, what follows, z, ..."""
    offsets = np.empty(6 * len(edges) + 1, np.int32)
    pairs = offsets[:-1].reshape(-1, 6)
    pairs[:, ::2] = edges[:, :3] + 1
    pairs[:, 1::2] = edges[:, 1:]
    offsets[-1] = edges[-1, -1]
    is_word = np.full(len(offsets) // 8 + 1, 0b01010101, np.uint8)  # every other one
    words = pa.StringArray.from_buffers(
        len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(data), pa.py_buffer(is_word)
    )
    column = words.cast(pa.float64())
    values = np.frombuffer(column.buffers()[1], np.float64, count=len(column), offset=8 * column.offset)
    return values.reshape(-1, 6)[:, ::2]


def _plain_coordinates(text: _Text, lines: np.ndarray) -> np.ndarray:
    """Read the same with one Python object a word, for files that are spaced irregularly."""
    rows = []
    for line in lines.tolist():
        words = text.line(line).split()
        if len(words) != _VALUES_PER_JOINT:
            raise RejectedRecording(
                f"line {line + 1}: {len(words)} values of a joint, expected {_VALUES_PER_JOINT}"
            )
        try:
            rows.append([float(word) for word in words[:3]])
        except ValueError:
            start = b" ".join(words[:3])[:40].decode()
            raise RejectedRecording(f"line {line + 1}: {start!r} are not three numbers") from None
    return np.array(rows)


def _by_energy(sightings: _Sightings, joints: np.ndarray) -> Bodies:
    """Order the bodies by the sum of the standard deviations of x, y and z; keep the first two."""
    frames = np.array(sightings.frame)
    rows_of: dict[bytes, list[int]] = {}
    for row, body in enumerate(sightings.body):
        rows_of.setdefault(body, []).append(row)
    bodies = _persons(list(rows_of.values()), frames, joints)
    joined_tracks = len(rows_of) - len(bodies)
    if len(bodies) > 1:
        energy = [float(joints[rows].std(axis=(0, 1), dtype=np.float64).sum()) for rows in bodies]
        bodies = [
            bodies[i] for i in sorted(range(len(bodies)), key=lambda i: -energy[i])
        ]  # stable: first seen first
    motions = []
    for rows in bodies[:2]:
        motion = np.zeros((sightings.num_frames, NUM_JOINTS, 3), np.float32)
        motion[frames[rows]] = joints[rows]
        motions.append(motion)
    second = motions[1] if len(motions) > 1 else None
    return Bodies(sightings.num_frames, len(bodies), motions[0], second, joined_tracks)


def _persons(tracks: list[list[int]], frames: np.ndarray, joints: np.ndarray) -> list[list[int]]:
    """Join the tracks of a person whose tracking id changed; a track is the rows of one id, tracks come as first seen.

    A track goes on as one that ended before it began if its first pose lies where the other's last one did: on the average
    of all joints within 0.4 m and 2 cm for each frame between, at most 1 m. Of the genuine recordings' own consecutive
    frames, 99 % lie within 0.38 m, and those a second apart within 1 m.
    """
    persons: list[list[int]] = []
    for track in tracks:
        nearest, person_before = np.inf, None
        for person in persons:
            gap = int(frames[track[0]] - frames[person[-1]])
            distance = float(np.linalg.norm(joints[track[0]] - joints[person[-1]], axis=1).mean())
            if gap > 0 and distance <= min(0.4 + 0.02 * gap, 1.0) and distance < nearest:
                nearest, person_before = distance, person
        if person_before is None:
            persons.append(track)
        else:
            person_before.extend(track)
    return persons
