"""Files in folders and zips, read in place: order, bounds, damage, members that climb out."""

import os
import zipfile

import pytest

from kgan_ray.data.recording import RejectedRecording
from kgan_ray.data.sources import archive
from kgan_ray.data.sources.archive import list_files, read_file
from kgan_ray.settings import UserError
from kgan_ray.storage import StoreError

TEXTS = {"b/two.txt": b"two " * 500, "one.txt": b"one", "b/empty.txt": b""}


def make_zip(path, texts=TEXTS, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as packed:
        for name, text in texts.items():
            packed.writestr(name, text)
    return path


def read_all(path):
    return {name: read_file(path, place) for name, place in list_files(path)}


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_a_zip_and_the_same_unpacked_read_alike(tmp_path, method):
    packed = make_zip(tmp_path / "a.zip", method=method)
    zipfile.ZipFile(packed).extractall(tmp_path / "folder")
    assert read_all(packed) == read_all(tmp_path / "folder") == TEXTS
    assert [name for name, _ in list_files(packed)] == sorted(TEXTS)


def test_hidden_files_do_not_count(tmp_path):
    names = [".DS_Store", "__MACOSX/one.txt", "a/.hidden/x.txt", "a/seen.txt"]
    assert [name for name, _ in list_files(make_zip(tmp_path / "a.zip", dict.fromkeys(names, b"x")))] == [
        "a/seen.txt"
    ]


@pytest.mark.parametrize("name", ["../up.skeleton", "a/../../up.skeleton", "/etc/up.skeleton", "..\\up.skeleton"])
def test_a_zip_whose_member_climbs_out_is_refused(tmp_path, name):
    path = make_zip(tmp_path / "a.zip", {"fine.skeleton": b"", name: b"1"})
    with pytest.raises(UserError, match=r"a\.zip: its member .*up\.skeleton' lies outside the archive"):
        list_files(path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.zip"]


def test_what_is_no_zip_is_refused(tmp_path):
    path = tmp_path / "a.zip"
    path.write_bytes(b"PK\x03\x04 and nothing more")
    with pytest.raises(UserError, match=r"a\.zip: cannot be read as a zip"):
        list_files(path)


def test_a_damaged_member_is_set_aside_and_the_others_are_read(tmp_path):
    path = make_zip(tmp_path / "a.zip", {"bad.txt": b"spoilt " * 99, "good.txt": b"fine"})
    data = bytearray(path.read_bytes())
    data[45:50] = b"\xff" * 5  # inside the first member's packed bytes
    path.write_bytes(data)
    places = dict(list_files(path))
    with pytest.raises(RejectedRecording, match="the zip is damaged here"):
        read_file(path, places["bad.txt"])
    assert read_file(path, places["good.txt"]) == b"fine"


def test_a_zip_bomb_is_stopped_at_its_declared_size(tmp_path, monkeypatch):
    path = make_zip(tmp_path / "a.zip", {"bomb.txt": b"\0" * 3_000_000})
    ((_, place),) = list_files(path)
    monkeypatch.setattr(archive, "MAX_BYTES", 1_000_000)
    with pytest.raises(RejectedRecording, match="3000000 bytes; at most 1000000 are accepted"):
        read_file(path, place)
    lying = [place[0], place[1], 999, *place[3:]]  # a directory that declares less than is packed
    with pytest.raises(RejectedRecording, match="size or checksum differ"):
        read_file(path, lying)


def test_an_encrypted_member_is_set_aside(tmp_path):
    path = make_zip(tmp_path / "a.zip", {"one.txt": b"x"})
    ((_, place),) = list_files(path)
    with pytest.raises(RejectedRecording, match="encrypted"):
        read_file(path, [*place[:-1], 1])


def test_a_pipe_in_a_folder_is_set_aside_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.skeleton")
    with pytest.raises(RejectedRecording, match="not a plain file"):
        read_file(tmp_path, "pipe.skeleton")


def test_a_file_that_has_gone_is_no_fault_of_the_recording(tmp_path):
    with pytest.raises(StoreError, match=r"gone\.skeleton: cannot be read \(No such file or directory\)"):
        read_file(tmp_path, "gone.skeleton")


def test_an_oversized_file_is_set_aside_unread(tmp_path):
    with (tmp_path / "huge.skeleton").open("wb") as file:
        file.truncate(archive.MAX_BYTES + 1)  # sparse
    with pytest.raises(RejectedRecording, match="at most"):
        read_file(tmp_path, "huge.skeleton")
