"""Updates of the weights, training latents and image preparation against vectors of the official implementation."""

import json

import numpy as np
import torch
from golden_vector import GoldenVector
from lightning import LightningModule, Trainer
from PIL import Image

from arflow_handlers.models import network_of
from visionseq.data.decode import center_crop
from visionseq.data.moments import latents_of
from visionseq.optim.factory import OptimizerConfig
from visionseq.training import EMA

RECIPE = OptimizerConfig(lr=1e-4, name="adamw", betas=(0.9, 0.95), weight_decay=0.02, decay_vectors=False)


class GivenGradients(LightningModule):
    """Updates whose gradients are those of the file."""

    def __init__(self, vector: GoldenVector):
        super().__init__()
        self.vector, self.model = vector, network_of(vector)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        gradients = self.vector.tensors(f"in/grad_{batch_idx}/")
        return sum((parameter * gradients[name]).sum() for name, parameter in self.model.named_parameters())

    def configure_optimizers(self) -> dict:
        return RECIPE.build(self.model.parameters(), 0)


def check_optimizer_step(vector: GoldenVector) -> None:
    task, ema = GivenGradients(vector), EMA(0.9999, start_update=0, rampup=None)
    steps = len({name.split("/")[0] for name in vector.names("in/grad_")})
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        callbacks=[ema],
        gradient_clip_val=3.0,
        gradient_clip_algorithm="value",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(task, torch.utils.data.DataLoader(torch.arange(steps), batch_size=1))
    vector.close_all("out/param/", task.model.state_dict(), 2e-7)
    vector.close_all("out/ema/", {**task.model.state_dict(), **ema.average.shadow}, 2e-7)

    # The groups are those of the official optimiser.
    names = {id(parameter): name for name, parameter in task.model.named_parameters()}
    groups = {
        "decay" if group["weight_decay"] else "no_decay": {names[id(parameter)] for parameter in group["params"]}
        for group in trainer.optimizers[0].param_groups
    }
    assert groups == {name: set(members) for name, members in json.loads(vector.meta["groups"]).items()}


def check_latents(vector: GoldenVector) -> None:
    latent = latents_of(vector["in/moments"], vector["in/eps"], vector.config["scale"])
    vector.close("out/latent", latent, 1e-5)


def check_center_crop(vector: GoldenVector) -> None:
    for name in vector.names("in/"):
        size = int(name.rsplit("_", 1)[1])
        picture = center_crop(Image.fromarray(vector[f"in/{name}"].numpy()), size)
        vector.equal(f"out/{name}", torch.from_numpy(np.array(picture)))


HANDLERS = {"optimizer_step": check_optimizer_step, "latents": check_latents, "center_crop": check_center_crop}
