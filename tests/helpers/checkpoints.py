"""Checkpoints of other machines."""

import io
import json

import torch

from kgan_ray.training.checkpoint import CheckpointStore


def made_on_a_gpu(folder):
    """Make the newest checkpoint there what a GPU would have written: its generators' states have 16 bytes."""
    made = CheckpointStore(str(folder)).folders()[-1]
    optimiser = torch.load(io.BytesIO((made / "optimiser.pt").read_bytes()), weights_only=True)
    optimiser["random"] = {name: torch.arange(16, dtype=torch.uint8) for name in optimiser["random"]}
    content = io.BytesIO()
    torch.save(optimiser, content)
    (made / "optimiser.pt").write_bytes(content.getvalue())
    state = json.loads((made / "state.json").read_bytes())
    (made / "state.json").write_text(json.dumps({**state, "device": "cuda"}))
    return made
