import random
from pathlib import Path

import numpy as np
import pytest

from kgan_ray.named_layouts import read_layout
from kgan_ray.settings import UserError
from kgan_ray.skeleton import LAYOUTS, MotionSpec, SkeletonGraph, SkeletonLayout, find_layout

GOLDEN = Path(__file__).parent / "data/golden_ntu25_mlp4.npz"


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN)


@pytest.mark.parametrize("level", range(4))
def test_ntu_adjacency_is_the_published_one(golden, level):
    np.testing.assert_array_equal(SkeletonGraph("ntu25").levels[level].adjacency, golden[f"A{level}"])


@pytest.mark.parametrize("level", [1, 2, 3])
def test_ntu_unpooling_is_the_published_one(golden, level):
    graph = SkeletonGraph("ntu25")
    np.testing.assert_array_equal(graph.unpool(level), golden[f"unpool_{level}_to_{level - 1}"])
    np.testing.assert_array_equal(graph.levels[level].keep, golden[f"keep{level}"])


def test_the_general_rule_gives_the_published_tables_of_h36m():
    levels = SkeletonGraph("h36m16").levels
    assert [level.keep for level in levels[1:]] == [(0, 2, 5, 8, 9, 11, 14), (0, 3), (1,)]
    assert [level.root for level in levels] == [8, 3, 1, 0]
    assert levels[1].edges == ((0, 1), (0, 2), (0, 3), (3, 4), (3, 5), (3, 6))
    assert levels[2].edges == ((0, 1),)


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_names_its_joints_once(name):
    assert len(set(LAYOUTS[name].joints)) == LAYOUTS[name].num_joints


@pytest.mark.parametrize("num_joints", [1, 2, 3, 5, 17, 60])
@pytest.mark.parametrize("seed", range(5))
def test_any_tree_shrinks_to_its_root_and_grows_back(num_joints, seed):
    chance = random.Random(seed)
    bones = tuple((chance.randrange(joint), joint) for joint in range(1, num_joints))
    names = tuple(str(joint) for joint in range(num_joints))
    layout = SkeletonLayout(name="tree", joints=names, bones=bones, root=chance.randrange(num_joints))
    graph = SkeletonGraph(layout)
    sizes = [level.num_joints for level in graph.levels]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 1
    original = np.arange(num_joints)
    for level in graph.levels[1:]:
        original = original[list(level.keep)]
    assert original.tolist() == [layout.root]
    for level in (1, 2, 3):
        up = graph.unpool(level)
        removed = np.setdiff1d(np.arange(sizes[level - 1]), graph.levels[level].keep)
        np.testing.assert_allclose(up[:, removed].sum(axis=0), 0.5 if level == 3 else 1.0, rtol=1e-6)
        np.testing.assert_array_equal(up[:, list(graph.levels[level].keep)], np.eye(sizes[level]))


def test_adjacency_columns_sum_to_one():
    for level in SkeletonGraph("ucla20").levels:
        np.testing.assert_allclose(level.adjacency.sum(axis=(0, 1)), 1.0, rtol=1e-6)


def test_a_users_layout_is_read_with_joint_names(tmp_path):
    file = tmp_path / "hand.yaml"
    file.write_text("joints: [palm, index, tip]\nbones: [[palm, index], [1, 2]]\nroot: palm\n")
    layout = read_layout(file)
    assert (layout.name, layout.root, layout.bones) == ("hand", 0, ((0, 1), (1, 2)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("joints: [a, b]\nbones: [[a, c]]\nroot: a", "unknown joint 'c'"),
        ("joints: 3\nbones: [[0, 1]]\nroot: 0", "no bones lead from the root 0 to joint 2"),
        ("joints: 3\nbones: [[0, 1], [1, 2], [2, 0]]\nroot: 0", "3 joints need 2 bones, found 3"),
        ("joints: 2\nbones: [[0, 5]]\nroot: 0", "joint 5 is not among the 2 joints"),
        ("bones: []", "a layout needs the keys"),
        ("a: [", "cannot be read as YAML"),
        ("joints: 1\nbones: []\nroot: 0\ncolour: red", "unknown key 'colour'"),
    ],
)
def test_a_wrong_layout_is_refused_with_its_file_name(tmp_path, text, message):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as refusal:
        read_layout(file)
    assert str(refusal.value).startswith(str(file))
    assert message in str(refusal.value)


def test_an_unknown_layout_is_refused_with_the_nearest():
    with pytest.raises(UserError, match="Did you mean ntu25"):
        find_layout("ntu_25")


def test_to_metres_undoes_the_scaling():
    spec = MotionSpec(
        layout=LAYOUTS["ntu25"], coordinates=3, frames=64, class_names=("a",), value_range=(-1.5, 4.5)
    )
    metres = np.array([-1.5, 0.0, 4.5])
    scaled = 2 * (metres + 1.5) / 6.0 - 1
    np.testing.assert_allclose(spec.to_metres(scaled), metres)
