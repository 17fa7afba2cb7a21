"""Search-space files: what they accept, and the one line that a mistake gets."""

import copy
from pathlib import Path
from random import Random

import pytest

from kgan_ray.settings import UserError, override
from kgan_ray.tuning.question.domains import parse_domain
from kgan_ray.tuning.question.space import base_settings, load_space, parse_space
from kgan_ray.tuning.search.proposals import draw, grid, listed_configurations

SPACES = sorted((Path(__file__).parents[1] / "search_spaces").glob("*.yaml"))
GOOD = {
    "preset": "demo",
    "objective": {"metric": "fid"},
    "space": {"techniques.pooling": {"choice": ["avg", "max"]}},
}


def changed(*path_and_value):
    """GOOD with one value replaced: changed("search", "seed", 3)."""
    *path, value = path_and_value
    tree = copy.deepcopy(GOOD)
    node = tree
    for key in path[:-1]:
        node = node.setdefault(key, {})
    node[path[-1]] = value
    return tree


def test_there_are_spaces_to_parse():
    assert {"disc", "smoke", "ablation", "optimiser"} <= {path.stem for path in SPACES}


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_every_shipped_space_parses_and_all_its_configurations_are_valid(path):
    space = load_space(path)
    settings = base_settings(space, None, {})
    assert settings.evaluation.metrics[0] == space.objective.metric
    for point in draw(space.domains, 50, seed=0) if space.domains else space.configurations.values():
        override(settings, point)
    assert path.read_text().startswith("# ")  # the question, in words


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (changed("preset", "dmo"), r"f\.yaml: preset: unknown preset 'dmo'\. Did you mean demo\?"),
        (
            changed("objectve", {}),
            r"f\.yaml: unknown key 'objectve'\. Did you mean objective\? Accepted: question, preset",
        ),
        (
            changed("objective", "metric", "fdi"),
            r"f\.yaml: objective\.metric: unknown metric 'fdi'\. Did you mean fid\?",
        ),
        (
            changed("objective", "mode", "lowest"),
            r"objective\.mode: found \"lowest\", input should be 'min' or 'max'",
        ),
        (changed("search", "algorithm", "tpee"), r"search\.algorithm: found \"tpee\".* Did you mean tpe\?"),
        (changed("search", "num_trials", 0), r"search\.num_trials: found 0, input should be greater than 0"),
        (changed("confirm", {"seeds": 3, "most_seeds": 2}), r"confirm\.most_seeds: found 2, below seeds \(3\)"),
        (changed("confirm", {"margin": 0.8}), r"confirm\.margin: found 0\.8; a ratio's is a factor above 1"),
        (
            changed("confirm", {"margin": 1.2, "baseline": False}),
            r"confirm\.baseline: most_seeds and margin are for verdicts, which need the baseline",
        ),
        (changed("scheduler", "reduction_factor", 1), r"scheduler\.reduction_factor: found 1"),
        (changed("space", {}), r"expected one of space and configurations, found neither"),
        (
            changed("space", "techniques.poolin", {"choice": [1]}),
            r"unknown setting .*Did you mean techniques\.pooling",
        ),
        (
            changed("space", "model.pooling", {"choice": [1]}),
            r"space: unknown setting 'model\.pooling'\. Did you mean ",
        ),
        (
            changed("space", "techniques.pooling", "max"),
            r"space\.techniques\.pooling: found \"max\"; accepted: {choice: ",
        ),
        (
            changed("space", "techniques.pooling", {"choise": ["avg"]}),
            r"unknown domain 'choise'\. Did you mean choice\?",
        ),
        (changed("space", "techniques.pooling", {}), r"found 0 domains \(none\), expected one"),
        (
            changed("space", "techniques.pooling", {"choice": ["avg", "mx"]}),
            r"pooling: found \"mx\".*'avg' or 'max'",
        ),
        (changed("space", "techniques.pooling", {"choice": []}), r"expected a list of plain values"),
        (changed("space", "techniques.pooling", {"choice": ["avg", "avg"]}), r"the value \"avg\" is listed twice"),
        (
            changed("space", "techniques.label_noise_std", {"uniform": [1.0, 0.0]}),
            r"low 1\.0 is not below high 0\.0",
        ),
        (
            changed("space", "techniques.label_noise_std", {"uniform": [0.0]}),
            r"expected 2 numbers; uniform: \[LOW, HIGH\]",
        ),
        (
            changed("space", "techniques.label_noise_std", {"uniform": [-1, 1]}),
            r"found -1.*greater than or equal to 0",
        ),
        (
            changed("space", "techniques.label_noise_std", {"loguniform": [0, 1]}),
            r"low is 0; a logarithmic domain",
        ),
        (changed("space", "techniques.label_noise_std", {"quniform": [0, 1, 2]}), r"step is 2, expected above 0"),
        (changed("space", "training.n_critic", {"randint": [1, 5.5]}), r"expected 2 whole numbers"),
        (
            changed("space", "data.centre", {"choice": ["none"]}),
            r"space\.data\.centre: trials with different values could",
        ),
        (
            changed("space", "evaluation.truncation", {"uniform": [0.5, 1]}),
            r"space\.evaluation\.truncation: trials",
        ),
        (
            changed("space", "training.recalibrate_batch_norm", {"choice": [True, False]}),
            r"space\.training\.recalibrate_batch_norm: trials",
        ),
        (changed("space", "seed", {"choice": [1, 2]}), r"space\.seed: trials with different values could not be"),
        (
            changed("search", "start_with", [{"techniques.pooling": "mx"}]),
            r"search\.start_with\.0: .*found \"mx\"",
        ),
        (changed("search", "start_with", [{"model.width": 1}]), r"start_with\.0: 'model\.width' is not in space"),
        (changed("configurations", {"baseline": {}}), r"expected one of space and configurations, found both"),
        (changed("groups", {"xsub": {}}), r"groups: they go with configurations"),
        (
            changed("settings", {"training.stepz": 3}),
            r"settings: unknown setting 'training\.stepz'\. Did you mean",
        ),
    ],
)
def test_a_mistake_names_the_file_the_key_and_what_is_accepted(tree, message):
    with pytest.raises(UserError, match=message) as refusal:
        parse_space(tree, name="f", where="f.yaml")
    assert "f.yaml" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_grid_cannot_list_a_continuous_domain():
    tree = changed("space", "techniques.label_noise_std", {"uniform": [0, 1]}) | {"search": {"algorithm": "grid"}}
    with pytest.raises(UserError, match="a grid needs choice, randint or quniform, found uniform"):
        parse_space(tree, name="f", where="f.yaml")


def test_configurations_need_a_baseline():
    tree = {"preset": "demo", "configurations": {"A": {"techniques.pooling": "max"}}}
    with pytest.raises(UserError, match="configurations has no 'baseline'"):
        parse_space(tree, name="f", where="f.yaml")


def test_a_missing_file_suggests_its_neighbour(tmp_path):
    (tmp_path / "disc.yaml").write_text("")
    with pytest.raises(UserError, match=r"dsc\.yaml: No such file or directory\. Did you mean disc\.yaml\?"):
        load_space(tmp_path / "dsc.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("space: [", "not valid YAML"),
        ("", "expected keys such as"),
        ("preset: demo\npreset: h36m\n", "the key 'preset' is there twice"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_space_is_one_line(tmp_path, text, message):
    (tmp_path / "f.yaml").write_text(text)
    with pytest.raises(UserError, match=message) as refusal:
        load_space(tmp_path / "f.yaml")
    assert "\n" not in str(refusal.value)


def test_a_binary_file_is_refused(tmp_path):
    (tmp_path / "f.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not a text file"):
        load_space(tmp_path / "f.yaml")


def test_numbers_that_yaml_reads_as_words_are_numbers():
    domain = parse_domain("training.generator_learning_rate", {"loguniform": ["2e-5", "2e-3"]}, "f.yaml")
    assert domain.values == (2e-5, 2e-3)


@pytest.mark.parametrize(
    ("tree", "listed"),
    [
        ({"choice": [None, 0.5]}, (None, 0.5)),
        ({"randint": [1, 3]}, (1, 2, 3)),
        ({"quniform": [0.0, 0.3, 0.1]}, (0.0, 0.1, 0.2, 0.3)),
    ],
)
def test_listed_values(tree, listed):
    assert parse_domain("techniques.mask_quantile", tree, "f.yaml").listed() == listed


@pytest.mark.parametrize(
    "tree",
    [{"uniform": [0.5, 2.0]}, {"loguniform": [0.5, 2.0]}, {"quniform": [0.5, 2.0, 0.5]}, {"randint": [1, 4]},
     {"lograndint": [1, 100]}, {"choice": [1, 2]}],
)  # fmt: skip
def test_draws_stay_inside_and_reach_the_whole_domain(tree):
    domain = parse_domain("techniques.label_noise_std", tree, "f.yaml")
    random = Random(0)
    draws = [domain.draw(random) for _ in range(2000)]
    low, high = min(domain.values[:2]), max(domain.values[:2])
    assert min(draws) >= low
    assert max(draws) <= high
    assert min(draws) < low + 0.1 * (high - low) + 1e-9
    assert max(draws) > high - 0.1 * (high - low) - 1e-9


CONDITIONAL = {
    "preset": "demo",
    "space": {
        "techniques.mask_quantile": {"choice": [None, 0.5, 0.9]},
        "techniques.mask_noise_std": {"choice": [0.1, 0.3], "when": {"techniques.mask_quantile": [0.5, 0.9]}},
    },
}


def test_a_conditional_setting_is_left_out_where_it_does_not_matter():
    space = parse_space(CONDITIONAL, name="f", where="f.yaml")
    points = grid(space.domains)
    assert len(points) == 1 + 2 * 2
    assert {"techniques.mask_quantile": None} in points
    for point in draw(space.domains, 100, seed=0):
        assert ("techniques.mask_noise_std" in point) == (point["techniques.mask_quantile"] is not None)


def test_a_condition_on_a_setting_that_is_not_searched_above_is_refused():
    tree = {"preset": "demo", "space": dict(reversed(CONDITIONAL["space"].items()))}
    with pytest.raises(UserError, match="mask_quantile' is not searched above it; searched above: none"):
        parse_space(tree, name="f", where="f.yaml")


NUMBERS = {
    "preset": "demo",
    "space": {
        "training.generator_learning_rate": {"loguniform": [2e-6, 2e-2]},
        "techniques.label_noise_std": {"uniform": [0.0, 1.0]},
    },
}


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (changed("search", "algorithm", "cmaes"), "pooling: cmaes needs numbers, found choice; use tpe or gp"),
        (
            NUMBERS | {"search": {"algorithm": "cmaes"}, "objective": ["fid", "accuracy"]},
            "search.algorithm: cmaes needs one objective, found 2; tpe takes any number",
        ),
        (
            {"preset": "demo", "search": {"algorithm": "cmaes"},
             "space": {"techniques.label_noise_std": {"uniform": [0.0, 1.0]}}},
            "cmaes needs two settings or more, found one",
        ),
        (
            CONDITIONAL | {"search": {"algorithm": "gp"}},
            "mask_noise_std.when: gp needs every setting in every trial; use tpe, nsga2, random or grid",
        ),
        (changed("search", "algorithm", "nsga2"), "nsga2 needs two or more objectives, found 1"),
        (
            changed("scheduler", "type", "asha") | {"objective": ["fid", "accuracy"]},
            "scheduler.type: asha ranks trials by one number, and there are 2 objectives",
        ),
        (changed("objective", ["fid", {"metric": "acuracy"}]), "unknown metric 'acuracy'. Did you mean accuracy"),
        (changed("objective", "diversity"), "objective.metric: diversity ranks nothing"),
        (changed("objective", ["fid", "fid"]), "objective: fid, fid names a metric twice"),
        (
            changed("objective", [{"metric": "fid", "mean_of": 2}, "accuracy"]),
            "objective.mean_of: it goes with one objective, and not with scheduler.type pbt",
        ),
        (
            {**changed("objective", "accuracy"), "confirm": {"compare": "ratio"}},
            "confirm.compare: ratio is for fid, fid_test, fid_per_class, fid_inception; accuracy may be 0 or below",
        ),
    ],
)  # fmt: skip
def test_an_algorithm_refuses_what_it_cannot_search(tree, message):
    with pytest.raises(UserError) as refusal:
        parse_space(tree, name="f", where="f.yaml")
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("objective", "given", "compare"),
    [("fid", None, "ratio"), ("accuracy", None, "difference"), ("kid", None, "difference"), ("fid", "difference", "difference")],
)  # fmt: skip
def test_metrics_above_zero_are_compared_by_their_ratio(objective, given, compare):
    tree = changed("objective", objective) | ({"confirm": {"compare": given}} if given else {})
    assert parse_space(tree, name="f", where="f.yaml").compare == compare


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        ({"fidd": 1.0}, "published.xsub.baseline: unknown metric 'fidd'. Did you mean fid"),
        ({"fid": "low"}, "published.xsub.baseline.fid: expected a number, found 'low'"),
    ],
)
def test_a_published_figure_is_that_of_a_metric(figures, message):
    tree = GOOD | {"published": {"xsub": {"baseline": {**figures, "note": "our reading"}}}}
    with pytest.raises(UserError) as refusal:
        parse_space(tree, name="f", where="f.yaml")
    assert message in str(refusal.value)


def test_the_published_ablation_stands_beside_the_published_metrics_alone():
    space = load_space(next(path for path in SPACES if path.name == "ablation.yaml"))
    for configurations in space.published.values():
        assert {name for figures in configurations.values() for name in figures} == {
            "fid_inception", "mmd_avg_published", "mmd_seq_published", "note",
        }  # fmt: skip
        assert configurations["D"]["note"] == "our reading, strength 0.1"
        assert base_settings(space, None, {}).techniques.mask_noise_std == 0.1


def test_several_objectives_are_measured_in_their_order():
    space = parse_space(changed("objective", ["accuracy", {"metric": "mmd_avg"}]), name="f", where="f.yaml")
    assert space.modes == {"accuracy": "max", "mmd_avg": "min"}
    assert (space.objective.metric, space.mode) == ("accuracy", "max")
    assert base_settings(space, None, {}).evaluation.metrics[:2] == ("accuracy", "mmd_avg")
    assert parse_space(changed("objective", "accuracy"), name="f", where="f.yaml").modes == {"accuracy": "max"}


def test_random_and_grid_search_list_their_configurations_and_start_with_the_known_good():
    good = [{"techniques.pooling": "max"}]
    for algorithm, count in (("random", 5), ("grid", 2)):
        tree = GOOD | {"search": {"algorithm": algorithm, "num_trials": 5, "start_with": good}}
        listed = listed_configurations(parse_space(tree, name="f", where="f.yaml"))
        assert listed[0] == good[0]
        assert len(listed) == count


def test_set_on_the_command_line_beats_the_file_and_is_checked_against_the_domains():
    space = parse_space(GOOD | {"settings": {"training.steps": 100}}, name="f", where="f.yaml")
    assert base_settings(space, None, {}).training.steps == 100
    assert base_settings(space, None, {"training.steps": 50}).training.steps == 50
    assert base_settings(space, "ucla-xview", {}).data.benchmark == "xview"


def test_a_given_mode_ranks_the_checkpoints_of_every_trial():
    space = parse_space(changed("objective", "mode", "max"), name="x", where="x.yaml")
    assert base_settings(space, None, {}).evaluation.mode == space.mode == "max"
    plain = parse_space(GOOD, name="x", where="x.yaml")
    assert base_settings(plain, None, {}).evaluation.mode is None
    with pytest.raises(UserError, match=r"evaluation\.mode is max, .* say objective\.mode instead"):
        base_settings(plain, None, {"evaluation.mode": "max"})


@pytest.mark.parametrize(("group", "motions"), [("xsub", 40_091), ("xview", 37_646)])
def test_the_published_ablation_trains_each_group_for_twenty_epochs_of_its_own(group, motions):
    space = load_space(next(path for path in SPACES if path.name == "ablation.yaml"))
    training = override(base_settings(space, None, {}), space.groups[group]).training
    assert training.steps * training.batch_size / motions == pytest.approx(20, abs=0.02)


def test_values_that_cannot_stand_together_are_refused_before_anything_starts():
    tree = {
        "preset": "demo",
        "search": {"num_trials": 4},
        "space": {
            "model.projection": {"choice": [False, True]},
            "techniques.label_noise_std": {"uniform": [0.0, 1.0]},
        },
    }
    with pytest.raises(
        UserError, match=r"space\.model\.projection with space\.techniques\.label_noise_std: .*does not enter"
    ):
        base_settings(parse_space(tree, name="both", where="both.yaml"), None, {})
    tree["space"]["techniques.label_noise_std"]["when"] = {"model.projection": [False]}
    assert base_settings(parse_space(tree, name="both", where="both.yaml"), None, {}).model.projection is False
