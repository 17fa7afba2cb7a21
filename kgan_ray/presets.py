"""Named points in the tree of settings: what `--preset` accepts, as dotted settings."""

from __future__ import annotations

_SMALL = {"model.width": 0.25, "model.latent_dim": 64}

# Not the published training, nor are those that follow from it: see docs/training.md.
_UCLA: dict[str, object] = {
    **_SMALL,
    "data.benchmark": "xview",
    "data.centre": "frame",
    "data.window": "resample",
    # At this budget the published rates move like a body long before they obey a label.
    "training.generator_learning_rate": 4e-4,
    "training.discriminator_learning_rate": 4e-4,
    "training.n_critic": 2,
    "training.ema_decay": 0.99,
    "training.steps": 20_000,
    "training.checkpoint_every": 1_000,
    "evaluation.every_steps": 1_000,
    "training.recalibrate_batch_norm": True,
}

PRESETS: dict[str, dict[str, object]] = {
    "demo": {
        **_SMALL,
        "data.benchmark": "xsub",
        "data.centre": "frame",
        "data.window": "resample",
        "data.frames": 32,
        "training.steps": 600,
        # Five times the published rates, and more generator steps: the demo has a minute a run, not days.
        "training.generator_learning_rate": 1e-3,
        "training.discriminator_learning_rate": 1e-3,
        "training.n_critic": 2,
        "training.log_every": 50,
        "training.checkpoint_every": 200,
        "evaluation.every_steps": 200,
        "evaluation.num_motions": 1000,
        "training.recalibrate_batch_norm": True,
    },
    "ucla-xview": _UCLA,
    # What makes the label matter early; see docs/training.md.
    "ucla-xview-classes": {
        **_UCLA,
        "model.projection": True,
        "model.auxiliary_classifier": True,
        "model.mapping_gain": 0.2,
        "training.auxiliary_weight": 3.0,
        "training.auxiliary_generator_weight": 0.0,
        "training.balanced_classes": True,
    },
    "ntu60-xsub": {"data.benchmark": "xsub", "model.mapping_depth": 4},
    "ntu60-xview": {"data.benchmark": "xview", "model.mapping_depth": 6},
    "ntu120-xsub": {"data.benchmark": "xsub", "model.mapping_depth": 8, "training.steps": 2_300_000},
    "ntu120-xset": {"data.benchmark": "xset", "model.mapping_depth": 8, "training.steps": 2_300_000},
    "h36m": {"data.benchmark": "all", "model.mapping_depth": 8},
}
