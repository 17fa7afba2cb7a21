import pytest
import torch

from kgan_ray.training.losses import (
    discriminator_loss,
    discriminator_loss_gradient,
    generator_loss,
    gradient_penalty,
    interpolate,
    slope_penalty,
    slope_penalty_with_gradient,
)


@pytest.mark.parametrize(("slope", "expected"), [(1.0, 0.0), (3.0, 4.0)])
def test_gradient_penalty_of_a_linear_discriminator(slope, expected):
    # score = <w, x> has gradient w everywhere, so the penalty is (|w| - 1)^2 whatever the motions are.
    w = torch.randn(3, 8, 25)
    w *= slope / w.norm()
    real, fake = torch.randn(2, 4, 3, 8, 25)
    penalty = gradient_penalty(
        lambda x, label: (x * w).sum(dim=(1, 2, 3)), real, fake, torch.zeros(4).long(), torch.rand(4, 1, 1, 1)
    )
    assert penalty.item() == pytest.approx(expected, abs=1e-5)


def test_gradient_penalty_is_taken_between_real_and_fake():
    # score = |x|^2 / 2 has gradient x: the penalty is that of the interpolates' own lengths.
    real, fake, mix = torch.randn(4, 1, 1, 1), torch.randn(4, 1, 1, 1), torch.rand(4, 1, 1, 1)
    penalty = gradient_penalty(
        lambda x, label: x.square().sum(dim=(1, 2, 3)) / 2, real, fake, torch.zeros(4).long(), mix
    )
    expected = ((mix * real + (1 - mix) * fake).abs() - 1).square().mean()
    torch.testing.assert_close(penalty, expected)


def test_interpolates_end_at_real_and_fake():
    real, fake = torch.randn(2, 2, 1, 1, 1)
    assert torch.equal(interpolate(real, fake, torch.ones(2, 1, 1, 1)), real)
    assert torch.equal(interpolate(real, fake, torch.zeros(2, 1, 1, 1)), fake)


def test_losses_are_mean_scores():
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([5.0, 7.0])
    assert discriminator_loss(real, fake).item() == 4.0
    assert generator_loss(fake).item() == -6.0


def test_slope_penalty_measures_length_over_all_of_a_motion():
    slope = torch.zeros(2, 3, 4, 5)
    slope[0, 0, 0, 0], slope[0, 1, 2, 3] = 3.0, 4.0  # lengths 5 and 0
    assert slope_penalty(slope).item() == pytest.approx((16 + 1) / 2)


def test_gradients_written_out_are_those_of_differentiation():
    scores = torch.randn(9, requires_grad=True)
    discriminator_loss(scores[:3], scores[3:6]).backward()
    torch.testing.assert_close(discriminator_loss_gradient(3, scores.device, slope=0.0), scores.grad)
    assert discriminator_loss_gradient(3, scores.device, slope=1.0)[6:].tolist() == [1.0] * 3
    slope = torch.randn(4, 3, 8, 5)
    slope[1] = 0  # its length has no gradient there
    point = slope.clone().requires_grad_()
    (10 * slope_penalty(point)).backward()
    penalty, gradient = slope_penalty_with_gradient(slope, weight=10.0)
    torch.testing.assert_close(gradient, point.grad)
    assert penalty == slope_penalty(slope)
