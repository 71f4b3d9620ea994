"""The baseline: one stack of adaptive blocks for all times, as many blocks as BFM runs in a step.

Its modulations have full rank, its embeddings and its initialisation are those of BFM.

Legend: B batch, C channels, S side, N tokens, D width.
"""

from functools import partial
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from visionseq.bfm.blocks import RMSNorm
from visionseq.data.batch import ImageBatch
from visionseq.flow.guidance import guided
from visionseq.flow.paths import Linear
from visionseq.flow.solvers import euler, integrate
from visionseq.flow.task import Draw, GenerativeTask
from visionseq.nn.adaptive import AdaptiveBlock, AdaptiveOutput, Attention, FeedForward, zeroed
from visionseq.nn.embeddings import LabelEmbedding, TimeEmbedding, patchify, rotary_angles, unpatchify
from visionseq.optim.factory import OptimizerConfig
from visionseq.saving.pretrained import PretrainedModel

PATH = Linear(data_at=0)


class SingleStack(PretrainedModel):
    """Velocities of square images by one stack: forward(x [B, C, S, S], t [B], labels [B]) -> [B, C, S, S].

    Args:
        context_size, patch_size, in_channels: S, side of a patch, C.
        hidden_size, num_heads: D and the attention heads.
        num_classes: number of classes.
        class_dropout_prob: share of the labels that are dropped in training.
        depth: blocks.
    """

    room: ClassVar[str] = "bfm"

    def __init__(
        self,
        context_size: int,
        patch_size: int,
        in_channels: int,
        hidden_size: int,
        num_heads: int,
        num_classes: int,
        class_dropout_prob: float,
        depth: int,
    ):
        super().__init__()
        self.config: dict[str, Any] = {"depth": depth}
        self.patch_size, self.label_dim, self.class_dropout_prob = patch_size, num_classes, class_dropout_prob
        self.sample_shape = (in_channels, context_size, context_size)
        side, patch, head = context_size // patch_size, in_channels * patch_size**2, hidden_size // num_heads
        self.register_buffer("angles", rotary_angles((side, side), head), persistent=False)
        self.t_embedder = TimeEmbedding(hidden_size)
        self.y_embedder = LabelEmbedding(num_classes, hidden_size)
        self.x_embedder = nn.Linear(patch, hidden_size)
        self.blocks = nn.ModuleList(
            AdaptiveBlock(
                hidden_size,
                Attention(hidden_size, num_heads, q_norm=RMSNorm(head), k_norm=RMSNorm(head)),
                FeedForward(hidden_size, 4 * hidden_size),
            )
            for _ in range(depth)
        )
        self.final_layer = AdaptiveOutput(hidden_size, patch)
        self._initialise()

    def forward(self, x: Tensor, t: Tensor, class_labels: Tensor, drop: Tensor | None = None) -> Tensor:
        c_BD = self.t_embedder(t) + self.y_embedder(class_labels, drop)
        h_BND = self.x_embedder(patchify(x, self.patch_size))
        for block in cast("list[AdaptiveBlock]", self.blocks):
            h_BND = block(h_BND, c_BD, attend=partial(block.attn, angles=self.angles))
        return unpatchify(self.final_layer(h_BND, c_BD), self.patch_size, self.sample_shape[1:])

    @torch.no_grad()
    def sample(self, noise: Tensor, steps: int, class_labels: Tensor) -> Tensor:
        """Images [B, C, S, S] by Euler's method."""
        grid = torch.linspace(1, 0, steps + 1).tolist()
        return integrate(euler, guided(self, class_labels), noise, grid, record=False).x

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for layer in self.t_embedder.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02)
        blocks = cast("list[AdaptiveBlock]", self.blocks)
        for modulation in (*(block.adaLN_modulation for block in blocks), self.final_layer.adaLN_modulation):
            zeroed(cast("nn.Linear", list(modulation.children())[-1]))
        zeroed(self.final_layer.linear)


class SingleStackTask(GenerativeTask[ImageBatch]):
    """Flow matching of a single stack, at uniform times."""

    model: SingleStack

    def __init__(self, model: SingleStack, optimizer: OptimizerConfig, seed: int = 0):
        super().__init__(model, optimizer, seed)

    def loss(self, batch: ImageBatch, draw: Draw) -> Tensor:
        n = len(batch)
        noise, t = draw(self.noise, n), draw(_uniform, n)
        drop = draw(_uniform, n) < self.model.class_dropout_prob if self.training else None
        x_t = PATH.at(batch.image, noise, t)
        labels = self.labels(batch)
        assert labels is not None  # the digits have classes
        return (self.model(x_t, t, labels, drop) - PATH.velocity(batch.image, noise)).square().mean()


def _uniform(n: int, generator: torch.Generator) -> Tensor:
    return torch.rand(n, generator=generator)
