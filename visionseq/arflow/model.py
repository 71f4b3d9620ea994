"""ARFlow (arXiv 2501.16085): a SiT whose images see those before them in a sequence.

    v, M = network(x, t, y, M)        x a sequence of noisy images of class y, the noisiest first

In training a sequence holds different images of one class; in sampling it is the trajectory of one image, a call for
each state, and the memories M of the layers travel from call to call (`visionseq.arflow.sampling`). Both are this one
module: M goes in and comes out, and nothing is kept. Clock of the room: t = 0 is noise, t = 1 is data.

Names of the parameters and of the arguments are those of the official checkpoints. The blocks are DiT's with the
attention of `visionseq.arflow.attention`.

Legend: B sequences, S images, C channels, H W their sides, P side of a patch, N patches of an image, D width, K
channels of a head.
"""

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from visionseq.arflow.attention import HybridAttention
from visionseq.arflow.sampling import PathName, check_path, classifier_free, sample
from visionseq.errors import ConfigError
from visionseq.flow.guidance import GuidanceRule, chosen_rule
from visionseq.flow.sde import Form, LastStep, normal_noise
from visionseq.nn.adaptive import AdaptiveBlock, AdaptiveOutput, FeedForward
from visionseq.nn.embeddings import LabelEmbedding, PatchEmbedding, TimeEmbedding, sincos_positions, unpatchify
from visionseq.saving.pretrained import PretrainedModel

Memories = Sequence[Tensor]  # of the layers, each [B, heads, K, K] in float32


class HybridBlock(AdaptiveBlock):
    """adaLN-Zero block with hybrid attention.

    Args:
        dim: D.
        num_heads: heads of the attention.
        mlp_ratio: hidden width of the MLP / D.
    """

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float = 4.0):
        super().__init__(dim, HybridAttention(dim, num_heads), FeedForward(dim, int(dim * mlp_ratio)))

    def forward(  # type: ignore[override]  # it also takes and returns a memory
        self, x_BSND: Tensor, c_BS1D: Tensor, memory_BHKK: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Tokens after the block, and its memory after the last image; memory None: empty."""
        after = []

        def attend(h_BSND: Tensor) -> Tensor:
            attended_BSND, memory = self.attn(h_BSND, c_BS1D, memory_BHKK)
            after.append(memory)
            return attended_BSND

        x_BSND = super().forward(x_BSND, c_BS1D, attend=attend)
        return x_BSND, after[0]


class ARFlow(PretrainedModel):
    """The velocity of sequences of images: forward(x, t, y, memories) -> (velocity, memories).

    Args:
        input_size: H = W, of the latents for models of latents.
        patch_size: P.
        in_channels: C.
        hidden_size: D, a multiple of 4 and of the number of heads.
        depth: number of blocks.
        num_heads: heads of the attention.
        mlp_ratio: hidden width of the MLPs / D.
        class_dropout_prob: share of the training sequences that lose their class; 0: the table has no row for "no
            class", and there is no guidance.
        num_classes: classes.
        learn_sigma: the network has 2 C outputs, of which the first C are the velocity; the others are never trained.
        path: from noise to data: Linear, GVP or VP.

    Raises `ConfigError` for values that do not fit together.
    """

    room: ClassVar[str] = "arflow"
    pos_embed: Tensor

    def __init__(
        self,
        input_size: int = 32,
        patch_size: int = 2,
        in_channels: int = 4,
        hidden_size: int = 1152,
        depth: int = 28,
        num_heads: int = 18,
        mlp_ratio: float = 4.0,
        class_dropout_prob: float = 0.1,
        num_classes: int = 1000,
        learn_sigma: bool = True,
        path: PathName = "Linear",
    ):
        super().__init__()
        if patch_size < 1 or input_size % patch_size or not 0 <= class_dropout_prob <= 1:
            raise ConfigError(
                f"input_size {input_size}, patch_size {patch_size}, class_dropout_prob {class_dropout_prob}: expected "
                "a multiple of the patch size, and a share"
            )
        check_path(path)
        self.input_size, self.patch_size, self.in_channels = input_size, patch_size, in_channels
        self.num_classes, self.class_dropout_prob, self.path = num_classes, class_dropout_prob, path
        self.config = {
            "input_size": input_size,
            "patch_size": patch_size,
            "in_channels": in_channels,
            "hidden_size": hidden_size,
            "depth": depth,
            "num_heads": num_heads,
            "mlp_ratio": mlp_ratio,
            "class_dropout_prob": class_dropout_prob,
            "num_classes": num_classes,
            "learn_sigma": learn_sigma,
            "path": path,
        }

        side = input_size // patch_size
        self.x_embedder = PatchEmbedding(patch_size, in_channels, hidden_size)
        self.t_embedder = TimeEmbedding(hidden_size)
        self.y_embedder = LabelEmbedding(num_classes, hidden_size, null_row=class_dropout_prob > 0)
        self.register_buffer("pos_embed", sincos_positions((side, side), hidden_size).unsqueeze(0))
        self.blocks = nn.ModuleList(HybridBlock(hidden_size, num_heads, mlp_ratio) for _ in range(depth))
        outputs = (2 if learn_sigma else 1) * in_channels * patch_size**2
        self.final_layer = AdaptiveOutput(hidden_size, outputs)
        self._initialize()

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return self.in_channels, self.input_size, self.input_size

    @property
    def label_dim(self) -> int:
        """Number of classes."""
        return self.num_classes

    @property
    def null_label(self) -> int:
        """The label of no class; raises `ConfigError` where the model was made without one."""
        if not self.class_dropout_prob:
            raise ConfigError("class_dropout_prob 0: the model has no row for no class, and so no guidance")
        return self.y_embedder.null_label

    def forward(
        self, x_BSCHW: Tensor, t_BS: Tensor, y_B: Tensor, memories: Memories | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Velocities of all images, and the memories of the layers after the last image.

        Args:
            x_BSCHW: noisy images, the earlier ones seen by the later.
            t_BS: their times in [0, 1].
            y_B: classes of the sequences, int64; `null_label` for none.
            memories: those that an earlier call returned for the images before; None: there were none.
        """
        dtype, sequence = self.x_embedder.proj.weight.dtype, x_BSCHW.shape[:2]
        tokens_BSND = self.x_embedder(x_BSCHW.flatten(0, 1).to(dtype)).unflatten(0, sequence)
        x_BSND = tokens_BSND + self.pos_embed
        c_BSD = self.y_embedder(y_B).unsqueeze(1) + self.t_embedder(t_BS.flatten()).unflatten(0, sequence)
        c_BS1D = c_BSD.unsqueeze(2)

        before = [None] * len(self.blocks) if memories is None else memories
        after = []
        for block, memory_BHKK in zip(self.blocks, before, strict=True):
            x_BSND, memory_BHKK = block(x_BSND, c_BS1D, memory_BHKK)
            after.append(memory_BHKK)

        output_BSND = self.final_layer(x_BSND, c_BS1D)
        size = (self.input_size, self.input_size)
        output = unpatchify(output_BSND.flatten(0, 1), self.patch_size, size, "channel last")
        return output[:, : self.in_channels].unflatten(0, sequence).to(x_BSCHW.dtype), tuple(after)

    @torch.no_grad()
    def sample(
        self,
        noise: Tensor,
        steps: int = 250,
        class_labels: Tensor | None = None,
        guidance_scale: float = 1.0,
        guidance: GuidanceRule | None = None,
        guidance_channels: int | None = 3,
        diffusion_form: Form = "sigma",
        diffusion_norm: float = 1.0,
        last_step: LastStep | None = "mean",
        last_step_size: float = 0.04,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        callback: Callable[[int, float, Tensor], None] | None = None,
    ) -> Tensor:
        """Images or latents [B, C, H, W] in float32 from unit noise.

        Args:
            noise: unit noise [B, C, H, W].
            steps: network calls, one less without a last step.
            class_labels: int64 [B]; None: no class.
            guidance_scale: of classifier-free guidance; 1 is none, others double the rows of each call.
            guidance: a rule of `visionseq.flow.guidance` in place of the scale.
            guidance_channels: the scale acts on so many channels, 3 in published samples; None: on all.
            diffusion_form, diffusion_norm, last_step, last_step_size: see `visionseq.arflow.sampling.sample`.
            generator: of the noise that the sampler adds: one, or one for each image; None: torch's own.
            callback: called after each step with (step, t reached, state).
        """
        rule = chosen_rule(guidance, guidance_scale)
        if guidance is None:
            rule = classifier_free(guidance_scale, guidance_channels)
        added_noise = normal_noise(generator or torch.default_generator)
        options = steps, class_labels, rule, diffusion_form, diffusion_norm, last_step, last_step_size, callback
        return sample(self, noise, added_noise, *options, record=False).x.float()

    def _initialize(self) -> None:
        """Uniform Xavier maps, small embeddings; modulations and the last layer are zero already."""
        for layer in self.blocks.modules():
            if isinstance(layer, HybridAttention | FeedForward):
                for projection in layer.children():
                    _uniform(projection)
        _uniform(self.x_embedder.proj)
        for layer in self.t_embedder.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        nn.init.normal_(self.y_embedder.embedding_table.weight, std=0.02)


def _uniform(layer: nn.Module) -> None:
    """Uniform Xavier weights of a layer as a matrix [out, in], no bias."""
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    nn.init.xavier_uniform_(layer.weight.view(len(layer.weight), -1))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
