"""cluster.yaml is what Ray and EC2 accept, and opens nothing to the world. Nothing here needs a cloud."""

import re
from pathlib import Path

import botocore.loaders
import botocore.model
import botocore.validate
import jsonschema
import pytest
import yaml
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
