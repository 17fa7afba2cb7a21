"""What the names of NTU RGB+D recordings say, and the published splits."""

import pytest

from kgan_ray.data.sources.ntu import ACTIONS, SPLITS, action_names, parse_name, read_missing_list
from kgan_ray.settings import UserError


def test_a_name_gives_its_five_numbers():
    assert parse_name("S018C003P106R002A120") == (18, 3, 106, 2, 120)


@pytest.mark.parametrize(
    "name", ["", "S018C003P106R002", "s018c003p106r002a120", "S018C003P106R002A120x", "S1C1P1R1A1"]
)
def test_another_form_is_no_name(name):
    assert parse_name(name) is None


def test_the_actions_are_those_of_ntu_120():
    assert len(set(ACTIONS)) == len(ACTIONS) == 120
    assert (ACTIONS[0], ACTIONS[22], ACTIONS[59], ACTIONS[60], ACTIONS[119]) == (
        "drink water",
        "hand waving",
        "walking apart",
        "put on headphone",
        "rock-paper-scissors",
    )
    assert len(action_names(60)) == 60
    assert len(action_names(61)) == 120


def test_the_splits_are_as_published():
    subjects = SPLITS["xsub"].train
    assert len(subjects) == len(set(subjects)) == 53  # NTU-120
    ntu60 = (1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38)
    assert tuple(s for s in subjects if s <= 40) == ntu60
    assert SPLITS["xview"].train == (2, 3)
    assert SPLITS["xset"].train == (2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32)


def test_a_missing_list_may_say_other_things_beside_the_names(tmp_path):
    path = tmp_path / "missing.txt"
    path.write_text("missing 2 skeletons\nS001C002P005R002A008\nS001C002P006R001A008.skeleton\n\n")
    assert read_missing_list(path) == {"S001C002P005R002A008", "S001C002P006R001A008"}


@pytest.mark.parametrize("content", [b"", b"S1\n", b"\xff\xfe\xff"])
def test_a_list_that_names_nothing_is_refused(tmp_path, content):
    path = tmp_path / "missing.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"--missing-list .*missing\.txt: "):
        read_missing_list(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_missing_list(tmp_path / "absent.txt")
