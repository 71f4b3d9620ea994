"""Training of the feature networks: plain classification by cross-entropy."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch.nn.functional as F
from lightning import LightningModule
from torch import Tensor

from visionseq.data_check import ImageModel, check_images, check_resumed_classes, class_names_of, data_module_of
from visionseq.metrics.features import FeatureCNN
from visionseq.optim.factory import OptimizerConfig


class LabelledImages(Protocol):
    """What a batch must have: `image` float [B, C, H, W] in [-1, 1] and `label` int64 [B]."""

    image: Tensor
    label: Tensor


class FeatureTask(LightningModule):
    """Classifier training of a `FeatureCNN`; logs loss and accuracy, validation and test report both.

    Args:
        optimizer: optimiser, schedule and warm-up.
        img_resolution: side of the square images.
        in_channels: channels of the images.
        widths: output channels of each convolution.
        hidden: width of the penultimate layer, the features.
        num_classes: number of classes.
        label_smoothing: share of the target spread over all classes.
    """

    def __init__(
        self,
        optimizer: OptimizerConfig,
        img_resolution: int = 8,
        in_channels: int = 1,
        widths: Sequence[int] = (16, 32),
        hidden: int = 64,
        num_classes: int = 10,
        label_smoothing: float = 0.0,
    ):
        super().__init__()
        self.model = FeatureCNN(img_resolution, in_channels, widths, hidden, num_classes)
        self.optimizer_config = optimizer
        self.label_smoothing = label_smoothing

    def check_data(self, data: Any) -> None:
        """Compare the images and classes of a data module with the network; `ConfigError` where they do not match."""
        config = self.model.config
        shape = (config["in_channels"], config["img_resolution"], config["img_resolution"])
        names = class_names_of(self.model.preprocessing)
        check_images(ImageModel(type(self.model).__name__, shape, config["num_classes"], names), data)

    def setup(self, stage: str) -> None:
        data = data_module_of(self.trainer)
        if data is not None:
            self.check_data(data)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        check_resumed_classes(data_module_of(self.trainer), checkpoint)

    def training_step(self, batch: LabelledImages, batch_idx: int) -> Tensor:
        return self._step(batch, "train", self.label_smoothing)

    def validation_step(self, batch: LabelledImages, batch_idx: int) -> None:
        self._step(batch, "val")

    def test_step(self, batch: LabelledImages, batch_idx: int) -> None:
        self._step(batch, "test")

    def predict_step(self, batch: LabelledImages, batch_idx: int) -> Tensor:
        """Class probabilities [B, K]."""
        return self.model(batch.image).softmax(1)

    def configure_optimizers(self) -> Any:
        return self.optimizer_config.build(self.model.parameters(), self.trainer.max_steps)

    def _step(self, batch: LabelledImages, stage: str, label_smoothing: float = 0.0) -> Tensor:
        logits_BK = self.model(batch.image)
        loss = F.cross_entropy(logits_BK, batch.label, label_smoothing=label_smoothing)
        accuracy = (logits_BK.argmax(1) == batch.label).float().mean()
        # Epoch means are exact: Lightning weights them by the size of each batch.
        samples = len(batch.label)
        self.log(f"{stage}/loss", loss, prog_bar=stage != "train", batch_size=samples, sync_dist=True)
        self.log(f"{stage}/accuracy", accuracy, prog_bar=True, batch_size=samples, sync_dist=True)
        return loss
