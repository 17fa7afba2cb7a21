"""How long training will take is told before it starts."""

import psutil
import torch

from kgan_ray.settings import override
from kgan_ray.training.estimate import line_of_length, seconds_per_step
from kgan_ray.training.gan import GAN
from kgan_ray.tuning.running.neighbours import neighbours


def test_what_is_left_of_a_run_is_told(tiny, demo):
    spec = demo.view(tiny.data).spec
    assert line_of_length(tiny, spec, 4).startswith("2 steps of ")
    assert line_of_length(tiny, spec, 4).endswith(", evaluations aside")


def test_a_run_of_days_hears_what_would_end_sooner(tiny, demo):
    line = line_of_length(override(tiny, {"training.steps": 10**9}), demo.view(tiny.data).spec, 0)
    assert line.startswith("1,000,000,000 steps of ")
    assert line.endswith("fewer training.steps or the smaller networks of --preset ntu60-evening end sooner")


def test_a_measured_step_is_that_of_one_worker_and_leaves_the_threads_as_they_were(tiny, demo):
    before = torch.get_num_threads()
    two = override(tiny, {"resources.num_workers": 2, "resources.cpus_per_worker": 2.0})
    assert seconds_per_step(GAN(two, demo.view(tiny.data).spec)) > 0
    assert torch.get_num_threads() == before


def test_neighbours_train_meanwhile_and_are_gone_afterwards(tiny, demo):
    with neighbours(tiny, demo.view(tiny.data).spec, 1):
        (beside,) = [one for one in psutil.Process().children() if "neighbours" in " ".join(one.cmdline())]
        before = beside.cpu_times().user
        assert seconds_per_step(GAN(tiny, demo.view(tiny.data).spec)) > 0
        assert beside.cpu_times().user > before
    assert not beside.is_running()
