"""`fid_inception`: the published way of showing a motion to an image network."""

import importlib
import os

import pytest
import torch
import torch.nn.functional as F

from kgan_ray.metrics.frechet import Gaussian, frechet_distance
from kgan_ray.metrics.inception import (
    WEIGHTS_VARIABLE,
    as_images,
    check_weights,
    inception_distance,
    inception_features,
    load_network,
    weights_file,
)
from kgan_ray.settings import UserError


def motions(num, seed=0, coordinates=3):
    random = torch.Generator().manual_seed(seed)
    return torch.rand(num, coordinates, 16, 25, generator=random) * 2 - 1


def inception_library():
    try:
        return importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
    except (ImportError, RuntimeError):  # RuntimeError: a torchvision built for another torch
        pytest.skip("torch-fidelity, an optional extra, is not installed or does not fit torch")


def project(images):
    """A network in place of Inception: a fixed linear map of the image's corner regions."""
    return F.adaptive_avg_pool2d(images, 3).flatten(1)


def test_values_are_scaled_twice():
    images = as_images(torch.full((2, 3, 16, 25), -1.0))
    assert images.shape == (2, 3, 299, 299)
    assert torch.allclose(images, torch.tensor(-3.0))  # a correct scaling would end at -1
    assert torch.allclose(as_images(torch.ones(1, 3, 16, 25)), torch.tensor(1.0))


def test_resizing_is_bilinear_between_pixel_centres():
    ramp = torch.arange(25.0).expand(1, 3, 16, 25) / 24
    row = (as_images(ramp)[0, 0, 150] + 1) / 2 * 24
    centres = ((torch.arange(299) + 0.5) * 25 / 299 - 0.5).clamp(0, 24)
    assert torch.allclose(row, centres, atol=1e-4)


def test_motions_in_two_coordinates_get_a_third_of_zeros():
    images = as_images(motions(2, coordinates=2))
    assert (images[:, 2] == -1).all()


def test_the_distance_is_frechets_of_the_networks_features_at_any_batch_size():
    real, fake = motions(40), motions(30, seed=1) * 0.5
    expected = frechet_distance(*(Gaussian.of(project(as_images(side))) for side in (real, fake)))
    for batch in (7, 50):
        assert inception_distance(real, fake, network=project, batch=batch) == pytest.approx(expected, rel=1e-9)


def test_missing_weights_need_no_library_to_be_told(monkeypatch, tmp_path):
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path / "none.pth"))
    with pytest.raises(
        UserError, match=rf"no Inception weights at .*none\.pth; download weights.* in \${WEIGHTS_VARIABLE}"
    ):
        weights_file()


class Trap:
    """What runs a command when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (os.mkdir, (str(self.marker),))


def test_a_file_of_weights_cannot_run_anything(tmp_path):
    file, marker = tmp_path / "weights.pth", tmp_path / "ran"
    torch.save({"weight": torch.zeros(2)}, file)
    check_weights(file)
    for content in ({"weight": Trap(marker)}, Trap(marker)):
        torch.save(content, file)
        with pytest.raises(UserError, match=r"weights\.pth: not a file of weights alone"):
            check_weights(file)
    file.write_bytes(b"<html>")
    with pytest.raises(UserError, match="not a file of weights alone"):
        check_weights(file)
    assert not marker.exists()


def test_without_torch_fidelity_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    with pytest.raises(UserError, match=r"fid_inception needs torch-fidelity .*: pip install"):
        load_network("cpu")


def test_features_are_those_of_the_librarys_own_network(monkeypatch, tmp_path):
    """With random weights, on images of 8 bits and full size, which the library's way in leaves as they are."""
    kind = inception_library().FeatureExtractorInceptionV3
    torch.manual_seed(0)
    torch.save({}, tmp_path / "weights.pth")
    with monkeypatch.context() as patch:
        patch.setattr(kind, "load_state_dict", lambda self, state: None)
        network = kind(
            "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(tmp_path / "weights.pth")
        )
    images = torch.randint(256, (2, 3, 299, 299), dtype=torch.uint8)
    with torch.no_grad():
        (expected,) = network(images)
        found = inception_features(network, (images.float() - 128) / 128)
    assert found.shape == (2, 2048)
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-6)
