"""Label files: what published pickles hold is read, code in them is not run."""

import io
import os
import pickle
import struct
import tracemalloc

import numpy as np
import pytest

from kgan_ray.data.sources.arrays.labels import read_labels
from kgan_ray.settings import UserError

NAMES = ["S001C001P001R001A001.skeleton", "S001C001P001R001A002.skeleton"]


def write(path, data):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("labels", [[3, 5], np.array([3, 5]), np.array([3, 5], np.int32), list(np.array([3, 5]))])
def test_names_and_labels_of_every_protocol(tmp_path, protocol, labels):
    names, found = read_labels(write(tmp_path / "l.pkl", pickle.dumps((NAMES, labels), protocol)))
    assert names == NAMES
    assert found.tolist() == [3, 5]
    assert found.dtype == np.int64


def test_labels_alone(tmp_path):
    for count in (2, 5):  # two labels are not (names, labels)
        labels = list(range(count))
        assert read_labels(write(tmp_path / "l.pkl", pickle.dumps(labels)))[1].tolist() == labels
    np.save(tmp_path / "l.npy", np.arange(4))
    names, found = read_labels(tmp_path / "l.npy")
    assert (names, found.tolist()) == (None, [0, 1, 2, 3])


class Payload:
    """Unpickling it would create a file."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("wrap", [lambda p: p, lambda p: (NAMES, p), lambda p: (NAMES, np.array([p, 1], object))])
def test_code_in_a_pickle_is_named_and_not_run(tmp_path, wrap, protocol):
    mark = tmp_path / "mark"
    path = write(tmp_path / "l.pkl", pickle.dumps(wrap(Payload(mark)), protocol))
    with pytest.raises(UserError, match=r"l\.pkl: holds .*mkdir, which is code and was not run"):
        read_labels(path)
    assert not mark.exists()


def test_a_builtin_or_codec_cannot_be_reached(tmp_path):
    for text in (b"cbuiltins\neval\n(S'1'\ntR.", b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR."):
        with pytest.raises(UserError, match="which is code and was not run"):
            read_labels(write(tmp_path / "l.pkl", text))


def test_an_array_of_objects_in_npy_is_refused(tmp_path):
    mark = tmp_path / "mark"
    stream = io.BytesIO()
    np.save(stream, np.array([Payload(mark)], object), allow_pickle=True)
    with pytest.raises(UserError, match="cannot be read as"):
        read_labels(write(tmp_path / "l.npy", stream.getvalue()))
    assert not mark.exists()


def test_an_absurd_memo_index_takes_no_memory(tmp_path):
    path = write(tmp_path / "l.pkl", b"\x80\x02]r" + struct.pack("<I", 2**32 - 2) + b".")
    tracemalloc.start()
    with pytest.raises(UserError, match="whole numbers one a sequence"):
        read_labels(path)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as a pickle"),
        (b"not a pickle", "cannot be read as a pickle"),
        (pickle.dumps((NAMES, [0, 1]))[:-6], "cannot be read as a pickle"),
        (pickle.dumps((NAMES, [0, 1, 1])), "2 names and 3 labels; they must be as many"),
        (pickle.dumps((NAMES, ["a", "b"])), "whole numbers one a sequence"),
        (pickle.dumps((NAMES, [0.5, 1.5])), "whole numbers one a sequence"),
        (pickle.dumps((NAMES, [[0], [1, 2]])), "whole numbers one a sequence"),
        (pickle.dumps(([1, 2], np.arange(2))), "names as text|whole numbers"),
        (pickle.dumps({"labels": [0, 1]}), "whole numbers one a sequence"),
    ],
)
def test_what_is_no_label_file_is_refused_in_one_line(tmp_path, content, message):
    with pytest.raises(UserError, match=message) as refusal:
        read_labels(write(tmp_path / "l.pkl", content))
    assert "\n" not in str(refusal.value)


def test_a_missing_label_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_labels(tmp_path / "l.pkl")
