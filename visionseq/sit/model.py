"""SiT: a transformer on patches of images or latents that predicts a velocity, a score or the noise (arXiv 2401.08740).

    h = patches(x) + positions,   c = time(t) + label(y),   h <- blocks(h, c),   output = patches^-1(last layer(h, c))

Blocks and last layer are those of DiT (arXiv 2212.09748). Clock: t = 0 is noise, t = 1 is data, as everywhere in
visionseq. Names of parameters are the official ones.

Legend: B batch, C channels, S side, P side of a patch, N = (S/P)^2 patches, D width.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from visionseq.errors import ConfigError
from visionseq.flow.guidance import ClassifierFree, GuidanceRule
from visionseq.flow.paths import Path
from visionseq.flow.sde import Form, LastStep
from visionseq.nn.adaptive import AdaptiveBlock, AdaptiveOutput, Attention, FeedForward
from visionseq.nn.embeddings import LabelEmbedding, PatchEmbedding, TimeEmbedding, sincos_positions, unpatchify
from visionseq.saving.pretrained import PretrainedModel
from visionseq.sit.sampling import Solver, sample
from visionseq.sit.transport import PathName, Prediction, path_of

GUIDED_CHANNELS = 3  # of the published samples: guidance leaves the fourth channel of a latent alone


class SiT(PretrainedModel):
    """Prediction [B, C, S, S] of states [B, C, S, S], times [B] and classes [B].

    Args:
        input_size: S; a latent has an eighth of its image's side.
        patch_size: P, divides S.
        in_channels: C.
        hidden_size: D, a multiple of 4 and of num_heads.
        depth: number of blocks.
        num_heads: attention heads.
        mlp_ratio: width inside a block's MLP relative to D.
        class_dropout_prob: share of the labels that become "no class" in training; without it there is no "no class".
        num_classes: classes 0 to num_classes - 1; "no class" is num_classes.
        learn_sigma: the network has 2 C outputs, as official checkpoints do, and the second half is thrown away.
        path, prediction: what the model was trained for; samplers and losses follow them.

    A new model predicts zero. Raises `ConfigError` for sizes that do not divide and unknown names.
    """

    room: ClassVar[str] = "sit"
    pos_embed: Tensor

    def __init__(
        self,
        input_size: int = 32,
        patch_size: int = 2,
        in_channels: int = 4,
        hidden_size: int = 1152,
        depth: int = 28,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        class_dropout_prob: float = 0.1,
        num_classes: int = 1000,
        learn_sigma: bool = True,
        path: PathName = "Linear",
        prediction: Prediction = "velocity",
    ):
        super().__init__()
        arguments = locals()
        self.config = {name: arguments[name] for name in CONFIG}
        _check_sizes(input_size, patch_size, class_dropout_prob, num_classes)
        self.input_size, self.patch_size, self.in_channels = input_size, patch_size, in_channels
        self.path: Path = path_of(path, prediction)
        self.prediction = prediction

        # The network, in the official order.
        side, out_channels = input_size // patch_size, in_channels * (1 + learn_sigma)
        self.x_embedder = PatchEmbedding(patch_size, in_channels, hidden_size)
        self.t_embedder = TimeEmbedding(hidden_size)
        self.y_embedder = LabelEmbedding(num_classes, hidden_size, class_dropout_prob, null_row=class_dropout_prob > 0)
        self.register_buffer("pos_embed", sincos_positions((side, side), hidden_size).unsqueeze(0))
        self.blocks = nn.ModuleList(
            AdaptiveBlock(
                hidden_size, Attention(hidden_size, num_heads), FeedForward(hidden_size, int(hidden_size * mlp_ratio))
            )
            for _ in range(depth)
        )
        self.final_layer = AdaptiveOutput(hidden_size, patch_size**2 * out_channels)
        self._initialise()

    @property
    def label_dim(self) -> int:
        """Number of classes."""
        return self.y_embedder.num_classes

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """(C, S, S) of one state."""
        return self.in_channels, self.input_size, self.input_size

    def forward(self, x_BCSS: Tensor, t_B: Tensor, labels: Tensor | None, drop: Tensor | None = None) -> Tensor:
        """The prediction [B, C, S, S], in float32 or the dtype of the weights where that is float64.

        Args:
            x_BCSS: states of the path.
            t_B: times in [0, 1], 1 is data.
            labels: classes int64 [B], num_classes for "no class"; None: no class.
            drop: bool [B], which labels become "no class"; None: in training a share drawn from torch's generator.

        Raises `ConfigError` where a model without label dropout is asked for "no class".
        """
        if labels is None:
            labels = self.no_class(torch.zeros_like(t_B, dtype=torch.int64))
        if labels is None:
            raise ConfigError("the model has no label for no class (class_dropout_prob 0): it needs the classes")
        dtype = self.x_embedder.proj.weight.dtype
        h_BND = self.x_embedder(x_BCSS.to(dtype)) + self.pos_embed
        c_BD = self.t_embedder(t_B) + self.y_embedder(labels, drop)
        for block in self.blocks:
            h_BND = block(h_BND, c_BD)
        y_BCSS = unpatchify(self.final_layer(h_BND, c_BD), self.patch_size, self.sample_shape[1:], "channel last")
        prediction = y_BCSS[:, : self.in_channels]
        return prediction if prediction.dtype == torch.float64 else prediction.float()

    def forward_with_cfg(
        self, x: Tensor, t: Tensor, labels: Tensor, cfg_scale: float, channels: int | None = GUIDED_CHANNELS
    ) -> Tensor:
        """Guided predictions of a doubled batch, as the official method of this name makes them.

        Args:
            x, t, labels: [2B, ...] = [with class; with "no class"]; the states of the second half are not read.
            cfg_scale: 1 is no guidance.
            channels: guide the first so many channels; the others keep the prediction of their half. None: all.
        """
        half = len(x) // 2
        conditional, null = self(torch.cat([x[:half], x[:half]]), t, labels).chunk(2)
        guided = ClassifierFree(scale=cfg_scale, channels=channels)(conditional, null, 0.0)
        count = self.in_channels if channels is None else channels
        return torch.cat([guided, torch.cat([guided[:, :count], null[:, count:]], 1)])

    def no_class(self, labels: Tensor | None) -> Tensor | None:
        """The label for no class, one for each of the labels [B]; None without labels, or where the model has none."""
        if labels is None or not self.y_embedder.dropout:
            return None
        return torch.full_like(labels, self.y_embedder.null_label)

    @torch.no_grad()
    def sample(
        self,
        noise: Tensor,
        steps: int | None = None,
        class_labels: Tensor | None = None,
        solver: Solver = "heun",
        guidance_scale: float = 1.0,
        guidance_channels: int = GUIDED_CHANNELS,
        guidance: GuidanceRule | None = None,
        diffusion_form: Form = "sigma",
        diffusion_norm: float = 1.0,
        last_step: LastStep | None = "mean",
        last_step_size: float = 0.04,
        atol: float = 1e-6,
        rtol: float = 1e-3,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        callback: Callable[[int, float, Tensor], None] | None = None,
    ) -> Tensor:
        """Images or latents [B, C, S, S] in float32 from unit noise; see `visionseq.sit.sample` for the options.

        `guidance_scale` and `guidance_channels` make the rule of the published samples; 0 channels are all. `guidance`
        is a rule in their place.
        """
        if guidance is None and guidance_scale != 1.0:
            guidance = ClassifierFree(scale=guidance_scale, channels=guidance_channels or None)
        options: dict[str, Any] = {"atol": atol, "rtol": rtol, "generator": generator, "callback": callback}
        options |= {"diffusion_form": diffusion_form, "diffusion_norm": diffusion_norm}
        options |= {"last_step": last_step, "last_step_size": last_step_size}
        return sample(self, noise, steps, solver, class_labels, guidance, record=False, **options).x.float()

    def _initialise(self) -> None:
        """Xavier for the maps of patches and blocks, small values for times and classes; modulations start at zero."""
        patches, times = self.x_embedder.proj, [part for part in self.t_embedder.mlp if isinstance(part, nn.Linear)]
        parts = [part for part in self.blocks.modules() if isinstance(part, Attention | FeedForward)]
        linears = [layer for part in parts for layer in part.children() if isinstance(layer, nn.Linear)]
        biases = [layer.bias for layer in (*linears, *times)] + [patches.bias]
        for bias in biases:
            if bias is not None:
                nn.init.zeros_(bias)
        for layer in linears:
            nn.init.xavier_uniform_(layer.weight)
        for layer in times:
            nn.init.normal_(layer.weight, std=0.02)
        nn.init.xavier_uniform_(patches.weight.view(len(patches.weight), -1))
        nn.init.normal_(self.y_embedder.embedding_table.weight, std=0.02)


CONFIG = (
    *("input_size", "patch_size", "in_channels", "hidden_size", "depth", "num_heads", "mlp_ratio"),
    *("class_dropout_prob", "num_classes", "learn_sigma", "path", "prediction"),
)


def _check_sizes(input_size: int, patch_size: int, class_dropout_prob: float, num_classes: int) -> None:
    if patch_size < 1 or input_size % patch_size:
        raise ConfigError(f"patch_size {patch_size} does not divide the input size {input_size}")
    if not 0 <= class_dropout_prob < 1 or num_classes < 1:
        raise ConfigError(
            f"class_dropout_prob {class_dropout_prob}, num_classes {num_classes}; expected a share below 1 and at "
            "least one class"
        )
