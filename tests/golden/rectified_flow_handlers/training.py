"""The training loop and the dynamic loss scale against vectors of the official implementation."""

from types import SimpleNamespace

import torch
from golden_vector import GoldenVector, close
from lightning import Callback, LightningModule, Trainer

from rectified_flow_handlers.losses import tiny_distance
from rectified_flow_handlers.models import velocity_of
from visionseq.optim.factory import OptimizerConfig
from visionseq.rectified_flow.losses import velocity_loss
from visionseq.training import EMA, DynamicLossScale, LossScale


class GoldenTask(LightningModule):
    """The vector's micro-batches, with its times instead of random ones."""

    def __init__(self, vector: GoldenVector):
        super().__init__()
        self.vector, self.config = vector, vector.config
        initial = {name.removeprefix("init/"): value for name, value in vector.state.items()}
        self.model = velocity_of(self.config, initial).train()
        self.distance = tiny_distance(vector, self.config.get("upsample", 224))

    def training_step(self, batch: tuple, batch_idx: int) -> torch.Tensor:
        x, z, t, label = (value.squeeze(0) for value in batch)
        t_B111 = t.view(-1, 1, 1, 1)
        x_t = (1 - t_B111) * x + t_B111 * z
        v = self.model(x_t, t, label if self.model.label_dim else None)
        options = {"divt": self.config["divt"], "perceptual": self.distance}
        return velocity_loss(self.config["loss_type"], v, x, z, x_t, t, **options).mean()

    def configure_optimizers(self) -> dict:
        rate = OptimizerConfig(self.config["lr"], warmup_steps=self.config["warmup"], official_warmup=True)
        return rate.build(self.model.parameters(), 0)


class Recorder(Callback):
    """Values that were passed to backward, and the rate of each update."""

    def __init__(self):
        self.losses, self.rates = [], []

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: torch.Tensor) -> None:
        self.losses.append(loss.item())

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])


def check_train_steps(vector: GoldenVector) -> None:
    task, recorder, ema = GoldenTask(vector), Recorder(), EMA(vector.config["ema"], rampup=None)
    batches = torch.utils.data.TensorDataset(*(vector[f"in/{name}"] for name in ("x", "z", "t", "labels")))
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        accumulate_grad_batches=vector.config["accum"],
        callbacks=[ema, recorder],
        plugins=[LossScale(vector.config["scale"])],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(task, torch.utils.data.DataLoader(batches, batch_size=1))
    losses = vector.expected("out/loss").flatten().float()
    torch.testing.assert_close(torch.tensor(recorder.losses), losses, rtol=1e-5, atol=1e-5)
    rates = torch.tensor(recorder.rates, dtype=torch.float64)
    vector.close("out/lr", rates.reshape(vector["out/lr"].shape), 1e-9)
    _compare(vector, "out/final/", dict(task.model.named_parameters()))
    _compare(vector, "out/ema/", ema.average.shadow)


def _compare(vector: GoldenVector, prefix: str, actual: dict[str, torch.Tensor]) -> None:
    for name in vector.names(prefix):  # a small selection holds some of the tensors only
        expected = vector.expected(prefix + name)
        compared = torch.ones(len(expected), dtype=torch.bool)
        if name.endswith("qkv.bias"):  # the keys' gradient is zero; Adam makes steps of its rounding noise
            compared[1::3] = False
        close(prefix + name, actual[name][compared], expected[compared], 1e-5)


def check_loss_scaler(vector: GoldenVector) -> None:
    config = SimpleNamespace(**{"factor": 2, "floor": 1, **vector.config})
    scale = DynamicLossScale(config.init_scale, config.scale_window, config.factor, config.floor)
    scales = []
    for overflow in vector["in/overflow"].tolist():
        scales.append(scale.scale)
        scale.update(bool(overflow))
    vector.equal("out/scale_before", scales)


HANDLERS = {"train_steps": check_train_steps, "loss_scaler": check_loss_scaler}
