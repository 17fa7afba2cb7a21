"""One process at a time works in a folder; the second one hears who does; a kill frees it by itself."""

import os
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest

from kgan_ray import ownership
from kgan_ray.ownership import FILE, Owner, owned, owner_of
from kgan_ray.settings import UserError
from kgan_ray.storage import StorePath

SCRIPT = """
import sys, time
from kgan_ray.ownership import owned
from kgan_ray.storage import StorePath
with owned(StorePath(sys.argv[1]), "sweep s"):
    print("mine", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(ownership, "SECONDS_BETWEEN_BEATS", 0.2)


@pytest.fixture
def home(tmp_path) -> StorePath:
    return StorePath(tmp_path)


@pytest.fixture
def other_process(tmp_path):
    """A process that owns tmp_path/s."""
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path / "s")], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"mine\n"
    yield process
    process.kill()
    process.wait()


def test_whoever_comes_second_hears_who_works_there_and_a_kill_frees_the_folder(tmp_path, other_process):
    folder = StorePath(tmp_path / "s")
    with pytest.raises(UserError, match=rf"sweep s runs here since .* on .* \(process {other_process.pid}\)"), owned(folder, "sweep s"):  # fmt: skip
        pass
    other_process.kill()
    other_process.wait()
    with owned(folder, "sweep s"):
        assert owner_of(folder).process == os.getpid()
    assert owner_of(folder) is None


def elsewhere(folder: StorePath, **changes) -> Owner:
    """Write the name of an owner on another machine."""
    owner = replace(Owner.this_process(), host="another", **changes)
    ownership._write(folder, owner)
    return owner


def test_an_owner_on_another_machine_is_watched_until_it_renews_its_name(home):
    with owned(home, "run r"):
        mine = owner_of(home)
        for _ in range(50):
            time.sleep(0.1)
            if owner_of(home).beat > mine.beat:
                break
        else:
            raise AssertionError("the owner does not renew its name")
    owner = elsewhere(home / "s")
    with owned(home / "s", "run r"):  # it renews nothing: it is gone
        assert not owner.is_same(owner_of(home / "s"))


def test_a_process_number_that_came_again_is_not_the_owner(home):
    owner = replace(Owner.this_process(), process_started=1.0)
    ownership._write(home, owner)
    with owned(home, "run r"):
        assert owner_of(home).process_started != 1.0


def test_a_name_that_cannot_be_read_is_nobodys(home):
    (home / FILE).write_text("{")
    assert owner_of(home) is None
    assert set(asdict(Owner.this_process())) == {"host", "process", "process_started", "since", "beat"}


def test_a_refusal_leaves_no_folder_behind_and_work_does(home):
    with pytest.raises(UserError, match="no data"), owned(home / "s", "run r"):
        raise UserError("no data")
    assert list(home.children()) == []
    with owned(home / "s", "run r"):
        (home / "s" / "work").write_text("")
    assert [file.name for file in (home / "s").children()] == ["work"]


def test_it_holds_behind_a_uri_too(home):
    folder = StorePath(f"memory://{home}/s")
    with owned(folder, "run r"), pytest.raises(UserError, match="run r runs here"), owned(folder, "run r"):
        pass
