"""What is measured before a sweep's trials start."""

from kgan_ray.data.dataset import Dataset
from kgan_ray.metrics.suite import Evaluator
from kgan_ray.settings import override
from kgan_ray.training.gan import GAN
from kgan_ray.training.loop import settle
from kgan_ray.training.networks import standardise
from kgan_ray.tuning.running.preparation import ends_of_curves


def test_curves_begin_at_the_untrained_generator_as_runs_measure_it(tiny):
    settings = override(tiny, {"training.recalibrate_batch_norm": True, "training.ema_decay": 0.9})
    evaluator = Evaluator(Dataset.open(settings.data.path).view(settings.data), settings.evaluation)
    ends = ends_of_curves(settings, evaluator, "fid")
    gan = GAN(settings, evaluator.spec)
    standardise(
        gan.networks.values(), evaluator.view.batches(batch_size=settings.training.batch_size, seed=settings.seed)
    )
    assert ends["untrained"] != evaluator.evaluate(gan, ["fid"])["fid"]
    settle(gan, evaluator.view)
    assert ends["untrained"] == evaluator.evaluate(gan, ["fid"])["fid"]
    assert 0 < ends["real"] < ends["untrained"]
