"""A file or a folder appears whole: old or new, whatever ends the writing."""

import os

import pytest

from kgan_ray import publishing
from kgan_ray.publishing import delete_folder, whole_folder, write_whole
from kgan_ray.settings import UserError
from kgan_ray.storage import StoreError, StorePath


@pytest.fixture(params=["here", "store"])
def home(request, tmp_path):
    """An empty folder, on this machine and behind a URI."""
    return StorePath(tmp_path if request.param == "here" else f"memory:/{tmp_path}")


def names(folder):
    return [path.name for path in folder.children()]


def test_a_file_is_replaced_and_nothing_lies_beside_it(home):
    for text in ("old", "new"):
        write_whole(home / "runs" / "sweep.json", text)
        assert (home / "runs" / "sweep.json").read_text() == text
    assert names(home / "runs") == ["sweep.json"]


@pytest.mark.parametrize("step", ["write_bytes", "unlink"])
def test_a_write_that_fails_leaves_the_old_file(home, monkeypatch, step):
    """Also where the half-written one cannot be deleted."""

    def full(self, *_, **__):
        raise OSError(28, "No space left on device")

    write_whole(home / "sweep.json", "old")
    monkeypatch.setattr(StorePath, "write_bytes", full)
    monkeypatch.setattr(StorePath, step, full)
    with pytest.raises(
        StoreError, match=r"sweep\.json: cannot be written \(No space left on device\); what it held"
    ):
        write_whole(home / "sweep.json", "new")
    assert (home / "sweep.json").read_text() == "old"
    assert names(home) == ["sweep.json"]


def test_a_folder_replaces_the_one_before_it_whole(home):
    for files in (("a", "b"), ("b", "c")):
        with whole_folder(home / "step", "mark") as part:
            for name in (*files, "mark"):
                (part / name).write_text(f"{files}")
        assert names(home / "step") == [*files, "mark"]
    assert names(home) == ["step"]


def test_a_folder_whose_writing_fails_leaves_nothing_of_itself(home):
    with pytest.raises(ZeroDivisionError), whole_folder(home / "step", "mark") as part:
        (part / "a").write_text(f"{1 / 0}")
    assert names(home / "step") == []


def test_a_folder_on_this_machine_is_the_old_one_until_all_of_the_new_one_is_on_the_disk(tmp_path, monkeypatch):
    folder, flushed = StorePath(tmp_path / "data"), []
    original = publishing.flush

    def flush(path):
        flushed.append(path.name)
        if path != tmp_path:
            assert names(folder) == ["old"]
        original(path)

    (folder / "old").write_text("")
    monkeypatch.setattr(publishing, "flush", flush)
    with whole_folder(folder, "mark") as part:
        (part / "inner" / "file").write_text("")
        (part / "mark").write_text("")
    assert sorted(flushed[:-1]) == ["file", "inner", "mark"]
    assert flushed[-1] == tmp_path.name
    assert names(folder) == ["inner", "mark"]
    assert os.listdir(tmp_path) == ["data"]  # noqa: PTH208


def test_a_link_to_a_folder_stays_and_its_target_is_replaced(tmp_path):
    for target in ("there", "elsewhere/not yet"):
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to(target)
        with whole_folder(StorePath(tmp_path / "link"), "mark") as part:
            (part / "mark").write_text("")
        assert (tmp_path / "link").is_symlink()
        assert names(StorePath(tmp_path / target)) == ["mark"]
    assert names(StorePath(tmp_path)) == ["elsewhere", "link", "there"]


def test_a_folder_that_cannot_be_replaced_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    for folder, what in (
        (".", "the current folder"),
        (tmp_path, "the current folder"),
        ("/", "the root of a disk"),
    ):
        monkeypatch.chdir(tmp_path)
        with (
            pytest.raises(UserError, match=f"is {what}, which cannot be replaced whole; name a new folder in it"),
            whole_folder(StorePath(folder), "mark"),
        ):
            pytest.fail("it was begun")
    assert names(StorePath(tmp_path)) == []


def test_a_folder_is_deleted_mark_first(home, monkeypatch):
    for name in ("a", "mark"):
        (home / "step" / name).write_text("")
    deleted = []
    original = StorePath.unlink
    monkeypatch.setattr(
        StorePath, "unlink", lambda self, **options: deleted.append(self.name) or original(self, **options)
    )
    delete_folder(home / "step", "mark")
    delete_folder(home / "never there", "mark")
    assert deleted[0] == "mark"
    assert names(home) == []
