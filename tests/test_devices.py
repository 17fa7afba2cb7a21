"""Which device computes, and what is said of it. The clusters are lists of Ray's resources."""

import os
import shutil
import subprocess
import sys
import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from helpers.networks import batch, motion_spec, narrow
from kgan_ray import devices
from kgan_ray.data.dataset import Dataset
from kgan_ray.devices import (
    fastest_precision,
    fitting_runs,
    forget_earlier_runs,
    line_of_device,
    line_of_runs,
    products,
    usable_device,
    with_devices,
)
from kgan_ray.metrics.names import METRICS
from kgan_ray.metrics.suite import Evaluator
from kgan_ray.resources import ResourceSettings
from kgan_ray.settings import Settings, UserError, override
from kgan_ray.training.gan import GAN

CORES = {"CPU": 16.0}
EIGHT = {**CORES, "GPU": 8.0, "accelerator_type:H100": 1.0}
OLD_DRIVER = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 18:56:32 UTC 2023\nGCC version: 12\n"
)
OPEN_DRIVER = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.65.06  Release Build  (dvs)\n"


def decided(have, **resources):
    changes = {f"resources.{name}": value for name, value in resources.items()}
    settings = with_devices(override(Settings(), {"training.batch_size": 8, **changes}), have)
    return settings.resources.gpus_per_worker, settings.training.cuda_graph


@pytest.mark.parametrize(
    ("have", "resources", "expected"),
    [
        (EIGHT, {}, (1.0, True)),
        (EIGHT, {"num_workers": 8}, (1.0, False)),
        (EIGHT, {"gpus_per_worker": 0.25}, (0.25, True)),
        (EIGHT, {"gpus_per_worker": 0}, (0.0, False)),
        (CORES, {}, (0.0, False)),
        ({**CORES, "GPU": 1.0}, {"num_workers": 2}, (0.0, False)),
        ({**CORES, "GPU": 1.0}, {"num_workers": 2, "min_workers": 1}, (1.0, False)),
    ],
)
def test_auto_is_a_gpu_a_worker_and_a_graph_for_a_single_one(have, resources, expected):
    assert decided(have, **resources) == expected


def test_what_a_user_decided_stays():
    settings = override(Settings(), {"training.cuda_graph": False, "resources.gpus_per_worker": 1})
    assert with_devices(settings, EIGHT) == settings
    assert with_devices(settings, CORES) == settings


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, "bfloat16"),
        ({"avx512_bf16": False, "amx_bf16": True}, "bfloat16"),
        ({"avx512_bf16": False, "amx_bf16": False, "avx512_f": True}, "float32"),
        ({"architecture": "aarch64"}, "float32"),
    ],
)
def test_auto_is_bfloat16_where_a_processor_multiplies_it(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert fastest_precision(torch.device("cpu")) == expected
    assert GAN(narrow({"training.precision": "auto"}), motion_spec()).precision == expected


def test_auto_is_float32_where_pytorch_does_not_say_what_a_processor_has(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert fastest_precision(torch.device("cpu")) == "float32"


@pytest.mark.parametrize(("has_it", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_auto_is_bfloat16_where_a_gpu_multiplies_it(monkeypatch, has_it, expected):
    supported = {"including_emulation": False}
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **asked: asked == supported and has_it)
    assert fastest_precision(torch.device("cuda")) == expected


def test_undecided_settings_ask_for_no_gpu():
    assert Settings().resources.device == "cpu"
    assert Settings().resources.needed_by(1) == {"CPU": 1.0}
    assert not Settings().training.uses_cuda_graph


@pytest.mark.parametrize(
    ("gpus", "share", "runs"), [(4, 0.3, 12), (4, 0.25, 16), (1.9, 0.5, 2), (4, 1, 4), (0, 0.5, 0)]
)
def test_a_run_on_a_part_of_a_gpu_finds_it_on_one(gpus, share, runs):
    have = {"CPU": 100.0, "GPU": float(gpus)}
    assert fitting_runs(ResourceSettings(gpus_per_worker=share), have) == runs


@pytest.mark.parametrize(
    ("resources", "runs", "have", "line"),
    [
        ({"gpus_per_worker": 1}, 1, EIGHT, "on 1 of 8 NVIDIA H100; 7 stay idle"),
        ({"gpus_per_worker": 1}, 8, EIGHT, "on 8 NVIDIA H100"),
        ({"gpus_per_worker": 1, "num_workers": 4}, 2, EIGHT, "on 8 NVIDIA H100"),
        ({"gpus_per_worker": 0.3}, 4, EIGHT, "on 2 of 8 NVIDIA H100; 6 stay idle"),
        ({"gpus_per_worker": 1}, 1, {"GPU": 2.0}, "on 1 of 2 GPUs; 1 stays idle"),
        ({}, 16, CORES, "on 16 CPU cores; no GPU found"),
        ({}, 2, CORES, "on 2 of 16 CPU cores; no GPU found"),
        ({}, 1, {"CPU": 1.0}, "on 1 CPU core; no GPU found"),
        (
            {"gpus_per_worker": 0},
            1,
            EIGHT,
            "on 1 of 16 CPU cores; 8 NVIDIA H100 stay idle (--set resources.gpus_per_worker=1 uses one a worker)",
        ),
    ],
)
def test_the_line_of_a_cluster_names_the_devices_and_what_stays_idle(resources, runs, have, line):
    assert line_of_runs(ResourceSettings(**resources), runs, have) == line


@pytest.mark.parametrize(
    ("resources", "told"),
    [
        ({"gpus_per_worker": 2}, "gpus_per_worker is 2, and a worker computes on one GPU"),
        ({"gpus_per_worker": 0.5, "num_workers": 2}, "2 workers of one run cannot share a GPU"),
        ({"gpus_per_worker": -1}, "gpus_per_worker: found -1, input should be .* or equal to 0; or .* 'auto'"),
    ],
)
def test_gpus_that_cannot_be_used_are_refused(resources, told):
    with pytest.raises(UserError, match=told):
        override(Settings(), {f"resources.{name}": value for name, value in resources.items()})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_auto_is_the_cpu_and_cuda_is_refused():
    assert usable_device("auto") == usable_device("cpu") == "cpu"
    for name, told in (("cuda", "PyTorch"), ("cuda:1", "PyTorch"), ("gpu", "accepted are auto, cpu, cuda")):
        with pytest.raises(UserError, match=f"^--device {name}: {told}"):
            usable_device(name)
    assert line_of_device("cpu").startswith("on ")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(("driver", "version"), [(OLD_DRIVER, "535.129.03"), (OPEN_DRIVER, "570.65.06")])
def test_a_driver_that_pytorch_cannot_use_is_named(tmp_path, monkeypatch, driver, version):
    (tmp_path / "version").write_text(driver)
    monkeypatch.setattr(devices, "_DRIVER_FILE", tmp_path / "version")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    told = devices.unusable_gpu()
    assert f"found driver {version}, its CUDA 13.0 needs 580 or newer and a GPU of the Turing generation" in told
    assert "https://pytorch.org/get-started/previous-versions/" in told
    assert told in line_of_device("cpu")
    assert decided(EIGHT) == (0.0, False)
    with pytest.raises(UserError, match=f"--device cuda: .*driver {version}"):
        usable_device("cuda")
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "it is built without CUDA" in devices.unusable_gpu()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert devices.unusable_gpu() == "", "the user hides it"


def test_nvidia_smi_is_asked_where_there_is_no_such_file(tmp_path):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 551.61\n")
    program.chmod(0o755)
    code = "from kgan_ray import devices; print(devices._nvidia_driver())"
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert devices._DRIVER_FILE.exists() or ran.stdout == "551.61\n"


@pytest.mark.parametrize(("device", "done"), [("cpu", []), ("cuda", ["empty_cache", "reset_peak_memory_stats"])])
def test_a_run_on_a_gpu_begins_with_none_of_an_earlier_ones_memory(monkeypatch, device, done):
    calls, cycle = [], torch.ones(3)
    cycle.itself, left = cycle, weakref.ref(cycle)
    del cycle
    for name in ("empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda name=name: calls.append(name))
    forget_earlier_runs(device)
    assert calls == done
    assert device == "cpu" or left() is None


@pytest.mark.parametrize("tf32", [True, False])
def test_the_switches_of_products_are_put_back(tf32):
    switches = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [switch.allow_tf32 for switch in switches]
    with products(tf32=tf32):
        assert [switch.allow_tf32 for switch in switches] == [tf32, tf32]
        with products():
            assert [switch.allow_tf32 for switch in switches] == [False, False]
        assert [switch.allow_tf32 for switch in switches] == [tf32, tf32]
    assert [switch.allow_tf32 for switch in switches] == before


class SwitchOfEachProduct(TorchDispatchMode):
    """Notes how TF32's switch stands whenever matrices are multiplied or convolved in float32."""

    def __init__(self):
        super().__init__()
        self.stands = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if any(kind in name for kind in ("mm", "convolution")) and args[0].dtype == torch.float32:
            self.stands.append(torch.backends.cudnn.allow_tf32)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("precision", ["tf32", "float32"])
def test_a_step_has_the_precision_of_its_settings_and_motions_are_float32_proper(precision):
    spec = motion_spec()
    gan = GAN(narrow({"training.precision": precision}), spec)
    with products(tf32=True), SwitchOfEachProduct() as products_of_step:
        gan.step(*batch(spec))
    with products(tf32=True), SwitchOfEachProduct() as products_of_sample:
        gan.sample(torch.arange(4), truncation=0.5)
    assert set(products_of_step.stands) == {precision == "tf32"}
    assert set(products_of_sample.stands) == {False}


def test_the_extractor_and_every_score_are_float32_proper(tiny, demo, tmp_path):
    dataset = Dataset.open(shutil.copytree(demo.path, tmp_path / "demo", ignore=shutil.ignore_patterns("cache")))
    view = dataset.view(tiny.data)
    with products(tf32=True), SwitchOfEachProduct() as trained:
        evaluator = Evaluator(view, tiny.evaluation, progress=lambda line: None)
    motions = torch.rand(64, *view.spec.shape) * 2 - 1
    metrics = [name for name in METRICS if name not in ("fid_inception", "fid_per_class", "fid_infinity")]
    with products(tf32=True), SwitchOfEachProduct() as scored:
        evaluator.score(motions, torch.arange(64) % view.spec.num_classes, metrics)
    assert set(trained.stands) == set(scored.stands) == {False}
