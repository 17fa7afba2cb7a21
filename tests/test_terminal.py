"""What the terminal says of a sweep that runs."""

import io

import pytest
from rich.console import Console

from kgan_ray.training.progress import Progress
from kgan_ray.tuning.running.terminal import Display, differing, short_names
from kgan_ray.tuning.state import Sweep, Trial


def trial(status: str, step: int, seconds: float, **more) -> Trial:
    defaults = {
        "name": f"explore-{status}-{step}",
        "stage": "explore",
        "configuration": "c",
        "overrides": {},
        "seed": 0,
    }
    return Trial(**defaults | {"status": status, "step": step, "seconds": seconds} | more)


def display(trials: list[Trial], *, total: int, width: int = 80, height: int = 24) -> Display:
    settings = {"training.steps": 600}
    sweep = Sweep(name="disc", space={}, settings=settings, metric="fid", mode="min", trials=trials)
    output = Console(
        width=width, height=height, file=io.StringIO(), force_terminal=True, no_color=True, highlight=False
    )
    return Display(sweep, count=lambda: total, at_once=2, guess=1000.0, output=output)


def lines_of(shown: Display) -> list[str]:
    with shown.console.capture() as said:
        shown.console.print(shown.render())
    return [line.replace("\x1b[1m", "").replace("\x1b[0m", "").rstrip() for line in said.get().splitlines()]


def test_time_left_is_the_estimate_until_a_whole_run_has_been_trained():
    assert display([trial("running", 300, 30.0)], total=4).seconds_left() == pytest.approx(1000, abs=5)
    assert display([trial("finished", 600, 60.0)], total=4).seconds_left() == 90.0  # three more, two at a time


def test_time_left_counts_what_running_trials_have_trained():
    shown = display([trial("finished", 600, 60.0), trial("running", 300, 30.0)], total=4)
    assert shown.seconds_left() == 75.0


def test_confirming_trials_run_to_their_end_where_explored_ones_were_stopped():
    shown = display([trial("finished", 600, 60.0), trial("stopped", 200, 20.0)], total=7)
    shown.sweep.num_explored = 4
    # Two to explore, 40 s each as those before; three that confirm, a minute each; two at a time.
    assert shown.seconds_left() == (2 * 40 + 3 * 60) / 2


def test_members_that_finished_a_round_have_trained_a_part():
    shown = display([trial("finished", 100, 10.0)] * 4 + [trial("waiting", 100, 10.0)] * 4, total=8)
    # Eight runs of a minute, a sixth of each is done, two at a time.
    assert shown.seconds_left() == pytest.approx(200)
    assert "0 of 8 trials ended" in lines_of(shown)[0]


def test_a_trial_that_was_stopped_early_is_a_whole_one():
    shown = display([trial("stopped", 100, 10.0), trial("failed", 0, 2.0)], total=4)
    shown.sweep.num_explored = 4
    assert shown.seconds_left() == 6.0


def explored(number: int, status: str, fid: float | None = None) -> Trial:
    overrides = {
        "techniques.pooling": "max" if number % 2 else "avg",
        "techniques.input_noise_std": 0.1 * number,
        "techniques.label_noise_std": 0.2412 * number,
        "techniques.mask_quantile": 0.7 if number % 3 else None,
        "training.gradient_penalty": 10.0,
    }
    metrics = {} if fid is None else {"fid": fid}
    step = 600 if status == "finished" else 200
    return trial(status, step, 20.0, name=f"explore-{number:02d}", overrides=overrides, metrics=metrics)


def test_a_terminal_of_80_by_24_shows_what_runs_the_best_and_how_many_have_ended():
    """Forty trials, of which two run: those two, the best so far and the last ones that ended, a line each."""
    trials = [explored(number, "finished", 1000.0 - number if number != 3 else 7.0) for number in range(1, 39)]
    trials += [explored(39, "running", 444.0), explored(40, "running"), explored(41, "waiting")]
    shown = display(trials, total=50)
    shown._take({"explore-39": Progress(450, 600, 5.0, 30.0, {})})
    lines = lines_of(shown)
    assert len(lines) <= 23
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("disc: 38 of 50 trials ended, ")
    assert lines[2].split() == "39 pool=max input=3.9 label=9.41 mask=null 450/600 444 0:30".split()
    assert lines[3].split()[0] == "40"
    assert lines[4].split() == "03 pool=max input=0.3 label=0.724 mask=null 600/600 7 best".split()
    assert lines[5].split()[0] == "38"
    assert lines[-1] == "Ctrl-C stops; --resume goes on"


def test_more_running_trials_than_lines_are_counted_and_the_best_stays_in_sight():
    trials = [explored(1, "finished", 5.0), *(explored(number, "running") for number in range(2, 40))]
    lines = lines_of(display(trials, total=50, height=12))
    assert len(lines) <= 11
    assert sum(line.endswith("best") for line in lines) == 1
    assert "and 33 more that run" in lines


def test_a_narrow_terminal_cuts_what_differs_and_nothing_else():
    lines = lines_of(display([explored(1, "finished", 5.0), explored(2, "running", 123.4)], total=3, width=50))
    assert max(map(len, lines[1:])) <= 50
    assert "…" in lines[-2]
    assert lines[-2].endswith("600/600      5  best")


def test_confirmation_runs_of_one_configuration_are_told_apart():
    runs = [
        trial("running", 0, 0.0, name=f"confirm-{name}-seed{seed}", stage="confirm", configuration=name, overrides=overrides)
        for name, overrides in (("baseline", {}), ("explore-07", {"techniques.pooling": "max"}))
        for seed in (1000, 1001)
    ]  # fmt: skip
    lines = lines_of(display(runs, total=4))
    assert [line.split()[:2] for line in lines[2:6]] == [
        ["baseline-seed1000", "baseline"], ["baseline-seed1001", "baseline"],
        ["explore-07-seed1000", "pool=max"], ["explore-07-seed1001", "pool=max"],
    ]  # fmt: skip


def test_only_what_differs_is_named_and_names_stay_apart():
    trials = [explored(1, "finished"), explored(2, "finished")]
    assert "training.gradient_penalty" not in differing(trials)
    assert short_names(["training.generator_learning_rate", "training.n_critic", "model.mapping_gain"]) == {
        "training.generator_learning_rate": "gene", "training.n_critic": "n_critic", "model.mapping_gain": "mapp",
    }  # fmt: skip
    assert short_names(["training.auxiliary_weight", "training.auxiliary_generator_weight"]) == {
        "training.auxiliary_weight": "auxiliary_weight",
        "training.auxiliary_generator_weight": "auxiliary_generator_weight",
    }
