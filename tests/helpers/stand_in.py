"""A cheap trial function for tests of the sweep: an analytic objective in place of training."""

from __future__ import annotations

import json
import math
import os
import random
import time
from pathlib import Path

from kgan_ray.storage import StoreError
from kgan_ray.training.progress import Outcome


def objective(settings) -> float:
    """Low for a generator learning rate near 2e-4; `training.auxiliary_weight` does nothing. Noisy."""
    source = random.Random(settings.seed * 7919 + hash_of(settings))
    distance = math.log10(settings.training.generator_learning_rate / 2e-4)
    return 100 + 50 * distance**2 + source.gauss(0, 5)


def hash_of(settings) -> int:
    return int(settings.training.auxiliary_weight * 1000) + int(settings.training.generator_learning_rate * 1e9)


def moving_target(settings, dataset, folder, context, run):
    """Training whose best learning rate falls from 1e-2 to 1e-4: what a step gains depends on how near it is.

    It keeps its state, the loss so far, in checkpoints of its own, and continues from the newest.
    """
    home = Path(folder) / "checkpoints"
    found = sorted(home.glob("step-*/state.json"))
    state = json.loads(found[-1].read_text()) if found else {"step": 0, "loss": 1000.0}
    rate, every = settings.training.generator_learning_rate, settings.evaluation.every_steps
    while state["step"] < settings.training.steps:
        time.sleep(float(os.environ.get("STAND_IN_SECONDS", "0")))
        state = {"step": state["step"] + every, "loss": state["loss"] * (1 - gain(rate, state["step"]))}
        (home / f"step-{state['step']:08d}").mkdir(parents=True, exist_ok=True)
        (home / f"step-{state['step']:08d}" / "state.json").write_text(json.dumps(state))
        context.report({"fid": state["loss"], "step": float(state["step"])})
    return Outcome("finished", state["step"], {"fid": state["loss"]})


def gain(rate: float, step: int) -> float:
    """At most 0.5, at the rate that is best at this step (of 100)."""
    best = -2 - 2 * step / 100
    return 0.5 * math.exp(-(((math.log10(rate) - best) / 0.4) ** 2))


def stand_in(settings, dataset, folder, context, run):
    """Three evaluations; a gradient penalty of 666 diverges, 667 raises, 668 ends the process, 669 finds the disk full."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    with (Path(folder) / "starts").open("a") as stream:
        stream.write(f"{os.getpid()}\n")
    penalty = settings.training.gradient_penalty
    if penalty == 667:
        raise RuntimeError("out of memory, or so it says")
    if penalty == 668:
        print("the last words of a process", flush=True)
        os._exit(1)
    if penalty == 669 and not (Path(folder).parent / "room").exists():
        raise StoreError("No space left on device")
    metrics = {}
    every = settings.evaluation.every_steps
    for step in range(every, settings.training.steps + 1, every):
        if penalty == 666:
            return Outcome("diverged", step, metrics, "generator/loss is nan")
        time.sleep(float(os.environ.get("STAND_IN_SECONDS", "0")))
        metrics = {"fid": objective(settings) * settings.training.steps / step, "accuracy": 0.1}
        if run:
            run.log_metrics({"metric/fid": metrics["fid"]}, step)
        context.report({**metrics, "step": float(step)})
    return Outcome("finished", settings.training.steps, metrics)
