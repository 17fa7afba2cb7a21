"""cluster.yaml is what Ray and EC2 accept, and opens nothing to the world. Nothing here needs a cloud."""

import os
import re
import subprocess
from pathlib import Path

import botocore.loaders
import botocore.model
import botocore.validate
import jsonschema
import pytest
import yaml
from ray.autoscaler._private.aws.config import _check_ami
from ray.autoscaler._private.util import prepare_config, validate_config

FILE = Path(__file__).parents[1] / "cluster.yaml"


@pytest.fixture
def config() -> dict:
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def ec2() -> botocore.model.ServiceModel:
    return botocore.model.ServiceModel(botocore.loaders.Loader().load_service_model("ec2", "service-2"))


def mistakes_in_node(node_config: dict, ec2: botocore.model.ServiceModel) -> str:
    """What EC2's own description of RunInstances has against a node; empty if nothing."""
    request = {"MinCount": 1, "MaxCount": 1, **node_config}
    shape = ec2.operation_model("RunInstances").input_shape
    report = botocore.validate.ParamValidator().validate(request, shape).generate_report()
    if node_config["InstanceType"] not in ec2.shape_for("InstanceType").enum:
        report += f"unknown instance type {node_config['InstanceType']}"
    return report


def test_ray_accepts_it(config):
    for node_type in config["available_node_types"].values():
        node_type.setdefault("resources", {"CPU": 4})  # on AWS, Ray asks EC2
    validate_config(prepare_config(config))


def test_ray_would_refuse_a_misspelt_key(config):
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout"):
        validate_config(prepare_config({**config, "idle_timeout": 3}))


def test_ec2_accepts_every_node(config, ec2):
    for name, node_type in config["available_node_types"].items():
        assert not mistakes_in_node(node_type["node_config"], ec2), name


@pytest.mark.parametrize(
    "wrong", [{"InstanceType": "g5.huge"}, {"InstanceMarketOption": {}}, {"EbsOptimized": "yes"}]
)
def test_ec2_would_refuse_a_mistake(config, ec2, wrong):
    assert mistakes_in_node({**config["available_node_types"]["spot"]["node_config"], **wrong}, ec2)


def test_images_are_looked_up_when_a_node_starts_and_not_by_ray(config):
    images = {name: one["node_config"]["ImageId"] for name, one in config["available_node_types"].items()}
    assert all(image.startswith("resolve:ssm:/aws/service/") for image in images.values())
    _check_ami(config)  # Ray fills in images of its own where it knows better
    assert {name: one["node_config"]["ImageId"] for name, one in config["available_node_types"].items()} == images


def test_spot_comes_first_and_on_demand_is_its_like(config):
    spot, on_demand = (config["available_node_types"][name] for name in ("spot", "on_demand"))
    assert spot["priority"] > on_demand["priority"]
    assert spot["node_config"].pop("InstanceMarketOptions") == {"MarketType": "spot"}
    assert spot["node_config"] == on_demand["node_config"]
    assert "InstanceMarketOptions" not in config["available_node_types"]["head"]["node_config"]


def test_the_head_runs_no_trials_and_idle_workers_go(config):
    head = config["available_node_types"][config["head_node_type"]]
    assert head["resources"] == {"CPU": 0}
    assert config["idle_timeout_minutes"] <= 15
    assert config["provider"]["cache_stopped_nodes"] is False


def test_no_port_is_opened_to_the_world(config):
    # With no rules of ours, Ray's own security group admits ssh, and the cluster's nodes to each other.
    assert "security_group" not in config["provider"]
    assert not any("NetworkInterfaces" in t["node_config"] for t in config["available_node_types"].values())
    start = next(line for line in config["head_start_ray_commands"] if "ray start" in line)
    assert "--dashboard-host=127.0.0.1" in start
    server = next(line for line in config["head_start_ray_commands"] if "mlflow server" in line)
    assert "--app-name basic-auth" in server
    assert "0.0.0.0" not in server


def test_every_ray_start_asks_for_the_token(config):
    starts = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
    starts = [line for line in starts if "ray start" in line]
    assert len(starts) == 2
    assert all(line.startswith("RAY_AUTH_MODE=token ") for line in starts)
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


def test_no_secret_is_in_it(config):
    assert not re.search(
        r"AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY|auth_token=", FILE.read_text(encoding="utf-8")
    )


def test_the_project_is_installed_with_its_pins(config):
    (install,) = [line for line in config["setup_commands"] if "pip install" in line]
    assert "-c constraints.txt -e '.[aws]'" in install


@pytest.fixture
def node(tmp_path):
    """A function that runs a command of cluster.yaml as a node would: a home, a /sys and programs that are all its own."""
    home, programs, devices = tmp_path / "home", tmp_path / "programs", tmp_path / "sys/bus/pci/devices/gpu"
    for folder in (home / ".ray", home / "venv/bin", programs, devices):
        folder.mkdir(parents=True)
    (home / ".ray/auth_token").write_text("the token", encoding="utf-8")

    def run(command: str, vendor: str = "0x8086", **scripts: str) -> subprocess.CompletedProcess[str]:
        (devices / "vendor").write_text(f"{vendor}\n", encoding="utf-8")
        for name, body in scripts.items():
            script = (
                home / "venv/bin/python"
                if name == "python"
                else programs / {"nvidia_smi": "nvidia-smi", "mount_nfs4": "mount.nfs4"}.get(name, name)
            )
            script.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
            script.chmod(0o755)
        environment = os.environ | {"HOME": str(home), "PATH": f"{programs}:{os.environ['PATH']}"}
        command = command.replace("/sys/", f"{tmp_path}/sys/")
        return subprocess.run(
            ["bash", "-c", command], env=environment, capture_output=True, text=True, check=False
        )

    run.home = home
    return run


def set_up(config: dict, word: str) -> str:
    """Return the one set-up command in which a word occurs."""
    (command,) = [line for line in config["setup_commands"] if word in line]
    return command


def test_a_folder_that_is_each_nodes_own_ends_the_set_up(config, node):
    command = set_up(config, "export_of_shared")
    refused = node(command)
    assert refused.returncode == 1
    assert "fill in export_of_shared" in refused.stderr
    assert node(command.replace('export_of_shared=""', "export_of_shared=none")).returncode == 0
    assert node(command, mountpoint="exit 0").returncode == 0


def test_a_shared_folder_is_mounted(config, node):
    command = set_up(config, "export_of_shared").replace(
        'export_of_shared=""', 'export_of_shared="files.example:/"'
    )
    done = node(command, mount_nfs4="", sudo='echo "$@"')
    assert done.returncode == 0
    assert f"mount -t nfs4 -o nfsvers=4.1,hard,noresvport files.example:/ {node.home}/shared" in done.stdout
    assert node(command, mount_nfs4="", sudo="exit 32").returncode == 32


def test_a_gpu_that_pytorch_cannot_use_ends_the_set_up(config, node):
    command = set_up(config, "nvidia-smi")
    old_driver = {"nvidia_smi": "echo 'Tesla T4, 570.86.15'", "python": "exit 1"}
    assert node(command, **old_driver).returncode == 0  # no GPU, nothing to check
    refused = node(command, vendor="0x10de", **old_driver)
    assert refused.returncode == 1
    assert "driver 580 or newer" in refused.stderr
    assert "Tesla T4, 570.86.15" in refused.stderr
    assert node(command, vendor="0x10de", **old_driver | {"python": "exit 0"}).returncode == 0


def test_the_password_follows_from_the_token_and_only_its_user_reads_it(config, node):
    command = set_up(config, ".mlflow/credentials")
    done = node(command)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    files = [node.home / ".mlflow" / name for name in ("credentials", "server.ini")]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    client, server = (path.read_text(encoding="utf-8") for path in files)
    (password,) = re.findall(r"mlflow_tracking_password = ([0-9a-f]{32})\n", client)
    assert f"admin_password = {password}\n" in server
    (node.home / ".ray/auth_token").write_text("another token", encoding="utf-8")
    node(command)
    assert password not in files[0].read_text(encoding="utf-8")
