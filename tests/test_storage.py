"""One path for this machine and for stores behind a URI."""

import io
import pickle

import pytest

from kgan_ray.settings import UserError
from kgan_ray.storage import StoreError, StorePath, folders_with, written_locally


@pytest.fixture(params=["here", "store"])
def home(request, tmp_path):
    """An empty folder, on this machine and behind a URI."""
    return StorePath(tmp_path if request.param == "here" else f"memory:/{tmp_path}")


def test_files_are_written_listed_read_and_deleted_in_folders_that_come_with_them(home):
    for name in ("b", "a"):
        (home / "runs" / name).write_text(f"näme {name}")
    assert [path.name for path in (home / "runs").children()] == ["a", "b"]
    assert (home / "runs" / "a").read_text() == "näme a"
    assert (home / "runs" / "a").is_file()
    assert not (home / "runs").is_file()
    (home / "runs" / "a").unlink()
    (home / "runs" / "a").unlink(missing_ok=True)
    assert (home / "runs").children() == [home / "runs" / "b"]


def test_what_is_not_there_is_told_alike(home):
    assert not (home / "no").exists()
    assert (home / "no").children() == []
    with pytest.raises(FileNotFoundError):
        (home / "no").read_bytes()


def test_a_path_goes_to_another_process_as_it_is_written(home):
    place = home / "sweep"
    assert place.filesystem is place.filesystem
    assert (place.name, place.parent) == ("sweep", home)
    assert pickle.loads(pickle.dumps(place)) == place
    assert str(pickle.loads(pickle.dumps(place))) == f"{home}/sweep"


def test_folders_with_a_file_are_listed_by_its_age(home):
    for name in ("new", "old", "none"):
        (home / name / "other").write_text("")
    for name in ("old", "new"):
        (home / name / "sweep.json").write_text("{}")
    assert {folder.name for folder in folders_with(home, "sweep.json")} == {"old", "new"}
    ages = [(folder / "sweep.json").modified() for folder in folders_with(home, "sweep.json")]
    assert ages == sorted(ages)


def test_files_that_need_a_local_folder_reach_the_store_and_come_back(home):
    with written_locally(home / "report") as folder:
        (folder / "page.html").write_text("page")
    with (home / "report").on_this_machine() as folder:
        assert (folder / "page.html").read_text() == "page"
        assert folder.name == "report"


def test_an_address_of_a_file_is_a_path_on_this_machine(tmp_path):
    assert StorePath((tmp_path / "a b").as_uri()) == StorePath(tmp_path / "a b")
    assert StorePath("results/").absolute().local.is_absolute()
    with pytest.raises(UserError, match="s3://lab/a: a folder on this machine is needed"):
        _ = StorePath("s3://lab/a").local


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s3://lab/a?region=x", "give the store's options in its own variables"),
        ("s3://me:swordfish@lab/a", "AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_an_address_that_holds_options_or_a_password_is_refused(address, message):
    with pytest.raises(UserError, match=message):
        StorePath(address)


def test_an_unknown_scheme_is_refused():
    with pytest.raises(UserError, match="nowhere://lab: cannot be opened"):
        StorePath("nowhere://lab").exists()


def test_a_store_that_refuses_is_one_line_to_the_user_and_an_os_error_to_the_code(monkeypatch):
    def refuse(*_):
        raise PermissionError("access denied\nand many lines of hints")

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.info", refuse)
    with pytest.raises(
        StoreError, match=r"^memory://lab/a: the store does not answer, or refuses \(access denied\)$"
    ):
        StorePath("memory://lab/a").exists()
    assert issubclass(StoreError, OSError)
    assert issubclass(StoreError, UserError)


def test_a_file_that_is_replaced_while_it_is_read_is_read_again(home):
    file = home / "sweep.json"
    file.write_text("the first words")
    store, path = file.filesystem, file.path
    file.__dict__["_place"] = StoreWhoseStreamsEndEarly(store, sizes=[6, 15]), path
    assert file.read_text() == "the first words"


class StoreWhoseStreamsEndEarly:
    """A file system that gives the first bytes of a file, as many as the next of `sizes`."""

    def __init__(self, store, sizes):
        self.store, self.sizes = store, iter(sizes)
        self.get_file_info = store.get_file_info

    def open_input_stream(self, path, **options):
        with self.store.open_input_stream(path, **options) as stream:
            return io.BytesIO(stream.read(next(self.sizes)))
