"""Named points in the tree of settings: what `--preset` accepts, as dotted settings."""

from __future__ import annotations

# What moves like a body early; see docs/training.md.
_BODIES: dict[str, object] = {
    "model.mapping_gain": 0.2,
    "model.mapping_depth": 2,
    "model.standardised": True,
    "model.smoothing": 1,  # recordings tremble a little themselves
}

# Not the published training, nor are those that follow from it.
_UCLA: dict[str, object] = {
    **_BODIES,
    "model.width": 0.25,
    "model.latent_dim": 64,
    "data.benchmark": "xview",
    "data.centre": "frame",
    "data.window": "resample",
    "data.frames": 32,  # half of the recordings are of 31 or fewer
    "training.generator_learning_rate": 1.6e-3,
    "training.discriminator_learning_rate": 1.6e-3,
    "training.learning_rate_decay": 0.1,
    "training.n_critic": 2,
    "training.ema_decay": 0.99,
    "training.steps": 10_000,
    "training.checkpoint_every": 1_000,
    "evaluation.every_steps": 1_000,
    "training.recalibrate_batch_norm": True,
    "training.precision": "auto",
}

# What makes the label matter early.
_CLASSES: dict[str, object] = {
    "model.projection": True,
    "model.auxiliary_classifier": True,
    "training.auxiliary_weight": 3.0,
    "training.auxiliary_generator_weight": 0.0,
    "training.balanced_classes": True,
}

EVENING = "ntu60-evening"  # what a run of days on a CPU is advised to try

PRESETS: dict[str, dict[str, object]] = {
    "demo": {
        "data.benchmark": "xsub",
        "data.centre": "frame",
        "data.window": "resample",
        "data.frames": 32,  # with 16 a single place would be left to pool over
        "model.width": 0.25,
        "model.latent_dim": 128,
        # Found by time to quality: the demo has a minute a run, not days.
        **_BODIES,
        "model.smoothing": 2,
        "training.steps": 810,  # so that nine minutes of two cores hold ten runs that confirm
        "training.generator_learning_rate": 3e-3,
        "training.discriminator_learning_rate": 3e-3,
        "training.learning_rate_decay": 0.2,
        "training.n_critic": 1,
        "training.beta1": 0.0,
        "training.beta2": 0.99,
        "training.gradient_penalty": 1.0,
        "training.ema_decay": 0.99,
        "training.log_every": 50,
        "training.checkpoint_every": 270,
        "evaluation.every_steps": 270,
        "evaluation.num_motions": 1000,
        "training.recalibrate_batch_norm": True,
        "training.precision": "auto",
    },
    "ucla-xview": _UCLA,
    "ucla-xview-classes": {**_UCLA, **_CLASSES},
    # Four hours on two cores of an AMD EPYC server, at 0.116 s a step. Reckoned, not trained: no NTU RGB+D was at hand.
    EVENING: {
        **_UCLA,
        **_CLASSES,
        "data.benchmark": "xsub",
        "data.frames": 64,
        "model.width": 0.375,
        "model.latent_dim": 128,
        "training.generator_learning_rate": 4e-4,
        "training.discriminator_learning_rate": 4e-4,
        "training.steps": 120_000,
        "training.checkpoint_every": 5_000,
        "evaluation.every_steps": 10_000,
        "resources.cpus_per_worker": 2.0,
    },
    "ntu60-xsub": {"data.benchmark": "xsub", "model.mapping_depth": 4},
    "ntu60-xview": {"data.benchmark": "xview", "model.mapping_depth": 6},
    "ntu120-xsub": {"data.benchmark": "xsub", "model.mapping_depth": 8, "training.steps": 2_300_000},
    "ntu120-xset": {"data.benchmark": "xset", "model.mapping_depth": 8, "training.steps": 2_300_000},
    "h36m": {"data.benchmark": "all", "model.mapping_depth": 8},
}
