"""What a searcher proposes: reproducible, learning, and after an interruption what it had not finished."""

import math
import pickle

import pytest

from kgan_ray.tuning.question.space import Space, parse_space
from kgan_ray.tuning.search.optuna_search import ResumableOptunaSearch, SearchSpace
from kgan_ray.tuning.search.proposals import OBJECTIVE, WORST, listed_configurations, objective_keys
from kgan_ray.tuning.state import Trial

CONDITIONAL = {
    "preset": "demo",
    "space": {
        "techniques.mask_quantile": {"choice": [None, 0.5, 0.9]},
        "techniques.mask_noise_std": {"choice": [0.1, 0.3], "when": {"techniques.mask_quantile": [0.5, 0.9]}},
    },
}
NUMBERS = {
    "preset": "demo",
    "space": {
        "training.generator_learning_rate": {"loguniform": [2e-6, 2e-2]},
        "techniques.label_noise_std": {"uniform": [0.0, 1.0]},
    },
}
PARETO = {"objective": ["fid", "accuracy"]}
ALGORITHMS = {
    "tpe": CONDITIONAL,
    "tpe-pareto": CONDITIONAL | PARETO,
    "nsga2": CONDITIONAL | PARETO | {"search": {"algorithm": "nsga2"}},
    "random": CONDITIONAL | {"search": {"algorithm": "random"}},
    "cmaes": NUMBERS | {"search": {"algorithm": "cmaes"}},
    "gp": NUMBERS | {"search": {"algorithm": "gp"}},
}


def space_of(tree: dict, count: int = 12, seed: int = 0) -> Space:
    search = {"num_trials": count, "seed": seed} | tree.get("search", {})
    return parse_space(tree | {"search": search}, name="f", where="f.yaml")


def objectives(point: dict, number: int) -> list[float]:
    """The rate's distance from 2e-4, and a second objective that grows."""
    return [abs(math.log10(point.get("training.generator_learning_rate", 2e-4) / 2e-4)), float(number)]


def proposals(space: Space, search: ResumableOptunaSearch, numbers: range) -> list[dict]:
    """What the search proposes one after the other, each trial ending before the next is proposed."""
    points, keys = [], objective_keys(list(space.modes))
    for number in numbers:
        points.append(search.suggest(f"t{number}"))
        search.on_trial_complete(f"t{number}", dict(zip(keys, objectives(points[-1], number), strict=False)))
    return points


def ended(point: dict, number: int, status: str = "finished") -> Trial:
    fid, accuracy = objectives(point, number)
    name = f"explore-{number + 1:02d}"
    metrics = {"fid": fid, "accuracy": accuracy}
    return Trial(
        name=name, stage="explore", configuration=name, overrides=point, seed=0, status=status, metrics=metrics
    )


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_same_seed_proposes_the_same_configurations(algorithm):
    def all_of(seed: int) -> list[dict]:
        space = space_of(ALGORITHMS[algorithm], seed=seed)
        return listed_configurations(space) or proposals(space, ResumableOptunaSearch(space), range(12))

    assert all_of(0) == all_of(0)
    assert all_of(0) != all_of(1)


@pytest.mark.parametrize("algorithm", ["tpe", "cmaes", "gp"])
def test_a_search_learns_and_starts_with_the_known_good(algorithm):
    good = {"training.generator_learning_rate": 1e-2, "techniques.label_noise_std": 0.5}
    space = space_of(NUMBERS | {"search": {"algorithm": algorithm, "start_with": [good]}}, count=30)
    points = proposals(space, ResumableOptunaSearch(space), range(30))
    distances = [objectives(point, 0)[0] for point in points]
    assert points[0] == good
    assert sum(distances[-10:]) < 0.7 * sum(distances[:10])


@pytest.mark.parametrize("algorithm", ["tpe", "tpe-pareto", "nsga2", "cmaes", "gp"])
def test_a_later_session_proposes_what_was_unfinished_and_knows_what_ended(algorithm):
    space = space_of(ALGORITHMS[algorithm], count=20)
    before = proposals(space, ResumableOptunaSearch(space), range(10))
    trials = [
        ended(point, number, "running" if number in (4, 9) else "finished") for number, point in enumerate(before)
    ]
    resumed = ResumableOptunaSearch(space, trials)
    study = resumed._ot_study
    assert [trial.params for trial in study.trials if trial.state.is_finished()] == [
        trial.overrides for trial in trials if trial.has_ended
    ]
    after = proposals(space, resumed, range(10, 14))
    assert after[:2] == [before[4], before[9]]
    assert len(study.best_trials) >= 1
    assert study.trials[-1].values[0] == objectives(after[-1], 0)[0]


def test_a_resumed_search_learns_from_the_earlier_trials_and_repeats_none():
    distances = []
    for seed in range(5):
        space = space_of(NUMBERS | {"search": {"algorithm": "tpe"}}, count=30, seed=seed)
        before = proposals(space, ResumableOptunaSearch(space), range(10))  # at random: a decade away on average
        trials = [ended(point, number) for number, point in enumerate(before)]
        after = proposals(space, ResumableOptunaSearch(space, trials), range(10, 30))
        assert not any(point in before for point in after)
        distances += [objectives(point, 0)[0] for point in after]
    assert sum(distances) / len(distances) < 0.8


def test_known_good_configurations_that_were_not_tried_come_before_the_samplers_own():
    good = [
        {"techniques.label_noise_std": value, "training.generator_learning_rate": 1e-3}
        for value in (0.1, 0.2, 0.3)
    ]
    space = space_of(NUMBERS | {"search": {"start_with": good}})
    resumed = ResumableOptunaSearch(space, [ended(good[0], 0), ended(good[1], 1, "interrupted")])
    assert proposals(space, resumed, range(2)) == good[1:]


def test_a_trial_that_diverged_counts_as_bad_as_the_worst_that_did_not():
    space = space_of(NUMBERS)
    search = ResumableOptunaSearch(space)
    for number, value in enumerate([WORST, 3.0, 7.0, WORST]):
        search.suggest(f"t{number}")
        search.on_trial_complete(f"t{number}", {OBJECTIVE: value})
    expected = [("FAIL", None), ("COMPLETE", 3.0), ("COMPLETE", 7.0), ("COMPLETE", 7.0)]
    assert [(trial.state.name, trial.value) for trial in search._ot_study.trials] == expected
    point = {"techniques.label_noise_std": 0.5, "training.generator_learning_rate": 1e-3}
    earlier = [ended(point, 0, status) for status in ("diverged", "finished", "failed", "diverged")]
    states = [trial.state.name for trial in ResumableOptunaSearch(space, earlier)._ot_study.trials]
    assert states == ["FAIL", "COMPLETE", "FAIL", "COMPLETE"]


def test_the_space_of_the_searcher_can_be_pickled():
    domains = space_of(CONDITIONAL).domains
    assert pickle.loads(pickle.dumps(SearchSpace(domains))).domains == domains
