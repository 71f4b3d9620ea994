"""Blockwise Flow Matching: a flow whose network is switched by the segment of time (arXiv 2510.21167).

    c  = time(t) + class(y)                                  [B, D]
    f  = feature blocks of x_t under c                       [B, N, D]     runs once for all blocks below
    h  = velocity blocks of segment k of x_t under [c; f]    [B, N, D]     each segment has blocks of its own
    v  = output(h | [c; f])                                  [B, C, S, S]  predicts dx_t/dt = noise - data

With feature residual approximation, inference runs the feature blocks at the first step of a segment alone. A small
network R, the FRN, moves that anchor A: f = A + w R(x_t, t, y), with w the share of the segment that lies behind.

Clock of the room: t = 0 is data, t = 1 is noise; t is embedded without a factor. The methods are separate: nothing
depends on whether the module trains. Names of parameters and arguments are the official ones.

Legend: B batch, C channels, S side, P side of a patch, N = (S / P)^2 tokens, D width, K segments.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from visionseq.bfm.blocks import BlockSettings, HeadNorm, Modulation, NormType, feature_block, frn_block, velocity_block
from visionseq.bfm.sampling import LastStep, Solver, sample
from visionseq.errors import ConfigError
from visionseq.flow.guidance import GuidanceRule, chosen_rule
from visionseq.flow.paths import GVP, Linear, Path
from visionseq.flow.sde import normal_noise
from visionseq.nn.adaptive import AdaptiveBlock, AdaptiveOutput, zero_modulation, zeroed
from visionseq.nn.embeddings import LabelEmbedding, TimeEmbedding, patchify, rotary_angles, unpatchify
from visionseq.saving.pretrained import PretrainedModel

PathType = Literal["linear", "cosine"]
STEPS_PER_SEGMENT = 8  # of the official evaluation during training
FRN = "frn_blocks."  # what the names of the FRN's parameters begin with


class BFM(PretrainedModel):
    """The network of one flow, with or without an FRN.

    Args:
        context_size: S, side of the images or latents.
        patch_size: P.
        in_channels: C.
        hidden_size: D, num_heads times a multiple of 4.
        num_heads: attention heads.
        mlp_ratio: width inside an MLP relative to D.
        class_dropout_prob: share of the labels that become "no class" in training; without it there is no such row.
        num_classes: number of classes; "no class" is the label num_classes.
        segments: K.
        segment_depth: velocity blocks of each segment.
        feature_alignment_depth: feature blocks.
        dim_projection: channels of the tokens that features are aligned with.
        adaln_lora_dim: rank of the blocks' modulations.
        frn_depth: blocks of the FRN.
        finetune: whether there is an FRN, as in the second stage.
        projector_hidden: width inside the alignment head.
        q_norm, k_norm: norms of queries and keys of each head.
        qk_norm_weight: these norms have a weight where they are layer norms.
        qkv_bias, ffn_bias, adaln_bias: biases of attention, MLPs and the blocks' modulations.
        norm_type: norm of the tokens: without a weight, with one, or RMS.
        adaln_type: only the low-rank modulation exists.
        use_swiglu, use_swiglu_large: gated MLPs of 2/3 of the width, or of the whole.
        rel_pos_embed: rotary positions, or none.
        learn_sigma: the output has 2 C channels, of which the first C are the velocity.
        path_type: straight line or cosine path.

    Raises `ConfigError` for sizes that do not divide and choices that do not exist.
    """

    room: ClassVar[str] = "bfm"
    angles: Tensor | None

    def __init__(
        self,
        context_size: int = 32,
        patch_size: int = 2,
        in_channels: int = 4,
        hidden_size: int = 1152,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        class_dropout_prob: float = 0.1,
        num_classes: int = 1000,
        segments: int = 6,
        segment_depth: int = 5,
        feature_alignment_depth: int = 20,
        dim_projection: int = 768,
        adaln_lora_dim: int = 288,
        frn_depth: int = 4,
        finetune: bool = False,
        projector_hidden: int = 2048,
        q_norm: HeadNorm | None = None,
        k_norm: HeadNorm | None = None,
        qk_norm_weight: bool = False,
        qkv_bias: bool = True,
        ffn_bias: bool = True,
        adaln_bias: bool = True,
        norm_type: NormType = "layernorm",
        adaln_type: Literal["lora"] = "lora",
        use_swiglu: bool = False,
        use_swiglu_large: bool = False,
        rel_pos_embed: Literal["rope"] | None = "rope",
        learn_sigma: bool = False,
        path_type: PathType = "linear",
    ):
        super().__init__()
        self.config = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        _check(self.config)
        self.context_size, self.patch_size, self.in_channels = context_size, patch_size, in_channels
        self.segments, self.num_classes, self.class_dropout_prob = segments, num_classes, class_dropout_prob
        self.path: Path = Linear(data_at=0) if path_type == "linear" else GVP(data_at=0)
        self.register_buffer("angles", self._angles(), persistent=False)

        # Embeddings; the feature network and the FRN share one map of the patches.
        patch, width = in_channels * patch_size**2, hidden_size
        self.t_embedder = TimeEmbedding(width)
        self.y_embedder = LabelEmbedding(num_classes, width, null_row=class_dropout_prob > 0)
        self.representation_x_embedder, self.x_embedder = TokenEmbedding(patch, width), TokenEmbedding(patch, width)

        # Three kinds of blocks, and what they share.
        arguments = {name: self.config[name] for name in BlockSettings.__dataclass_fields__}
        settings = BlockSettings(**arguments)
        rank = adaln_lora_dim
        self.representation_blocks = Stack(feature_block(settings, rank) for _ in range(feature_alignment_depth))
        stacks = [Stack(velocity_block(settings, rank) for _ in range(segment_depth)) for _ in range(segments)]
        self.velocity_blocks = nn.ModuleList(stacks)
        self.frn_blocks = Stack(frn_block(settings) for _ in range(frn_depth if finetune else 0))
        self.global_adaLN_modulation = zero_modulation(width, 6 * width)
        self.global_adaLN_modulation2 = zero_modulation(2 * width, 6 * width)

        # Heads: the velocity, and the tokens of another network.
        modulation = Modulation(nn.SiLU(), nn.Linear(2 * width, 2 * width))
        out = patch * 2 if learn_sigma else patch
        self.final_layer = AdaptiveOutput(width, out, modulation=modulation, norm=settings.norm)
        self.linear_projection = projection_head(width, projector_hidden, dim_projection)
        self._initialise()

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """(C, S, S) of one image or latent."""
        return self.in_channels, self.context_size, self.context_size

    @property
    def label_dim(self) -> int:
        """Number of classes."""
        return self.num_classes

    @property
    def num_tokens(self) -> int:
        """N."""
        return (self.context_size // self.patch_size) ** 2

    @property
    def has_frn(self) -> bool:
        """Whether features can be approximated."""
        return len(self.frn_blocks) > 0

    def no_class(self, class_labels: Tensor) -> Tensor:
        """Labels int64 [B] that stand for no class; `ConfigError` where the model was built without them."""
        if not self.class_dropout_prob:
            raise ConfigError("guidance needs a model that was trained with class_dropout_prob above 0")
        return torch.full_like(class_labels, self.num_classes)

    def forward(self, x: Tensor, t: Tensor, class_labels: Tensor, segment: int) -> Tensor:
        """The velocity [B, C, S, S] of x_t [B, C, S, S] at times [B] of one segment, by all of the network."""
        c_BD = self.condition(t, class_labels)
        return self.velocity(x, c_BD, self.features(x, c_BD), segment)

    def condition(self, t_B: Tensor, class_labels: Tensor, drop_B: Tensor | None = None) -> Tensor:
        """c [B, D] of times and classes int64 [B]; where `drop` (bool [B]) is true, of no class."""
        return self.t_embedder(t_B) + self.y_embedder(class_labels, drop_B)

    def features(self, x: Tensor, c_BD: Tensor) -> Tensor:
        """The features f [B, N, D] of x_t."""
        h_BND = self.representation_x_embedder(patchify(x, self.patch_size))
        return self.representation_blocks(h_BND, c_BD, self.global_adaLN_modulation(c_BD), self.angles)

    def residual(self, x: Tensor, c_BD: Tensor) -> Tensor:
        """R [B, N, D] of the FRN; `ConfigError` for a model without one."""
        if not self.has_frn:
            raise ConfigError("this model has no FRN: train one with FRNTask, from a run of the first stage")
        return self.frn_blocks(self.representation_x_embedder(patchify(x, self.patch_size)), c_BD, None, self.angles)

    def velocity(self, x: Tensor, c_BD: Tensor, f_BND: Tensor, segment: int) -> Tensor:
        """The velocity [B, C, S, S] of x_t with features f, by the blocks of one segment for all rows."""
        return self._velocity(x, c_BD, f_BND, [len(x) if k == segment else 0 for k in range(self.segments)])

    def project(self, f_BND: Tensor) -> Tensor:
        """Features as tokens [B, N, dim_projection] of another network."""
        return self.linear_projection(f_BND)

    def forward_train(
        self, x: Tensor, t: Tensor, class_labels: Tensor, split_sizes: Sequence[int], drop: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The first stage: velocity [B, C, S, S] and projected features [B, N, dim_projection].

        Args:
            x: x_t [B, C, S, S], its rows in the order of their segments.
            t: times [B].
            class_labels: int64 [B].
            split_sizes: rows of each segment; blocks of a segment without rows are not run and get no gradient.
            drop: bool [B], true where a label is replaced by no class.
        """
        if len(split_sizes) != self.segments or sum(split_sizes) != len(x):
            raise ConfigError(f"split_sizes {list(split_sizes)}, expected {self.segments} numbers of {len(x)} rows")
        c_BD = self.condition(t, class_labels, drop)
        f_BND = self.features(x, c_BD)
        return self._velocity(x, c_BD, f_BND, split_sizes), self.project(f_BND)

    def forward_residual(
        self,
        x: Tensor,
        t: Tensor,
        x_start: Tensor,
        t_start: Tensor,
        weight_B: Tensor,
        class_labels: Tensor,
        drop: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The second stage: approximated features A + w R and their target, both [B, N, D]; A and target are constants.

        Args:
            x, t: states [B, C, S, S] and their times [B].
            x_start, t_start: states at the beginning of their segments.
            weight_B: w, the share of the segment between t_start and t.
            class_labels, drop: as in the first stage; the same for both states.
        """
        c_BD = self.condition(t, class_labels, drop)
        with torch.no_grad():
            anchor_BND = self.features(x_start, self.condition(t_start, class_labels, drop))
            target_BND = self.features(x, c_BD)
        return anchor_BND + weight_B.view(-1, 1, 1) * self.residual(x, c_BD), target_BND

    @torch.no_grad()
    def sample(
        self,
        noise: Tensor,
        steps: int | None = None,
        class_labels: Tensor | None = None,
        solver: Solver = "euler",
        frn: bool | None = None,
        guidance_scale: float = 1.0,
        guidance: GuidanceRule | None = None,
        last_step: LastStep = "official",
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        callback: Callable[[int, float, Tensor], None] | None = None,
    ) -> Tensor:
        """Images or latents [B, C, S, S] float32 from unit noise.

        Args:
            noise: [B, C, S, S].
            steps: of all segments together, a multiple of K; None: 8 in each.
            class_labels: int64 [B].
            solver: `euler` (ODE) or `euler-maruyama` (SDE).
            frn: approximate features after the first step of a segment; None: in the ODE, where the model has an FRN.
            guidance_scale: of classifier-free guidance; 1 is none.
            guidance: a rule of `visionseq.flow.guidance` in place of the scale; it may act in a part of the time.
            last_step: of the SDE, see `visionseq.bfm.sampling.sample`.
            generator: of the noise that the SDE adds, one or one for each image; None: torch's own.
            callback: called after each step with (step, time reached, state).
        """
        steps = STEPS_PER_SEGMENT * self.segments if steps is None else steps
        if class_labels is None:
            raise ConfigError(f"class_labels are missing, {type(self).__name__} has {self.num_classes} classes")
        if steps < 1 or steps % self.segments:
            raise ConfigError(f"steps {steps}, expected a multiple of the {self.segments} segments")
        trajectory = sample(
            self,
            noise,
            class_labels,
            steps // self.segments,
            solver,
            frn=self.has_frn and solver == "euler" if frn is None else frn,
            rule=chosen_rule(guidance, guidance_scale),
            last_step=last_step,
            noise=normal_noise(generator or torch.default_generator),
            callback=callback,
            record=False,
        )
        return trajectory.x.float()

    def _velocity(self, x: Tensor, c_BD: Tensor, f_BND: Tensor, split_sizes: Sequence[int]) -> Tensor:
        """The velocity of rows that are ordered by their segments."""
        cf_BNE = torch.cat([c_BD.unsqueeze(1).expand_as(f_BND), f_BND], -1)
        h_BND = self.x_embedder(patchify(x, self.patch_size))
        parts = (part.split(list(split_sizes)) for part in (h_BND, cf_BNE, self.global_adaLN_modulation2(cf_BNE)))
        rows = zip(self.velocity_blocks, *parts, strict=True)
        h_BND = torch.cat([stack(h, cf, shared, self.angles) for stack, h, cf, shared in rows if len(h)])
        size = (self.context_size, self.context_size)
        return unpatchify(self.final_layer(h_BND, cf_BNE), self.patch_size, size)[:, : self.in_channels]

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "BFM":
        """Move with the module, in float32: angles of half precision would be other positions."""
        super()._apply(fn, recurse)
        angles = self._angles()
        if self.angles is not None and angles is not None and self.angles.dtype != angles.dtype:
            self.angles = angles.to(self.angles.device)
        return self

    def _angles(self) -> Tensor | None:
        if self.config["rel_pos_embed"] is None:
            return None
        side = self.context_size // self.patch_size
        return rotary_angles((side, side), self.config["hidden_size"] // self.config["num_heads"])

    def _initialise(self) -> None:
        """Xavier for all maps, 0.02 for the embeddings, zero for what ends a modulation and for the output.

        The FRN's modulations do not start at zero, as officially.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for layer in (*self.t_embedder.mlp, self.y_embedder.embedding_table):
            if isinstance(layer, nn.Linear | nn.Embedding):
                nn.init.normal_(layer.weight, std=0.02)
        stacks = cast("list[Stack]", [self.representation_blocks, *self.velocity_blocks])
        blocks = [block for stack in stacks for block in stack.blocks()]
        shared = (self.global_adaLN_modulation, self.global_adaLN_modulation2, self.final_layer.adaLN_modulation)
        for modulation in (*(block.adaLN_modulation for block in blocks), *shared):
            zeroed(cast("nn.Linear", list(modulation.children())[-1]))
        zeroed(self.final_layer.linear)


class Stack(nn.ModuleList):
    """Adaptive blocks one after another: forward(x [B, N, D], c, shared, angles) -> [B, N, D]."""

    def forward(self, x_BND: Tensor, c: Tensor, shared: Tensor | None, angles: Tensor | None) -> Tensor:
        for block in self.blocks():
            x_BND = block(x_BND, c, shared, attend=partial(block.attn, angles=angles))
        return x_BND

    def blocks(self) -> list[AdaptiveBlock]:
        """The blocks in their order."""
        return cast("list[AdaptiveBlock]", list(self))


class TokenEmbedding(nn.Module):
    """Patches [B, N, C P P] -> [B, N, D], a linear map."""

    def __init__(self, patch: int, dim: int):
        super().__init__()
        self.proj = nn.Linear(patch, dim)

    def forward(self, x_BNP: Tensor) -> Tensor:
        return self.proj(x_BNP)


def projection_head(dim: int, hidden: int, out: int) -> nn.Sequential:
    """Three linear maps with SiLUs between them, D -> hidden -> hidden -> out."""
    return nn.Sequential(
        nn.Linear(dim, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, out)
    )


def build_bfm(config: dict[str, Any]) -> BFM:
    """A new network from the arguments of `BFM`; an unknown one raises `ConfigError`."""
    try:
        return BFM(**config)
    except TypeError as error:
        raise ConfigError(f"network BFM: {error}") from error


def _check(config: dict[str, Any]) -> None:
    """Raise `ConfigError` for arguments that make no network."""
    positive = (
        *("context_size", "patch_size", "in_channels", "hidden_size", "num_heads", "num_classes", "segments"),
        *("segment_depth", "feature_alignment_depth", "dim_projection", "adaln_lora_dim", "projector_hidden"),
    )
    for name in positive:
        if config[name] < 1:
            raise ConfigError(f"{name} {config[name]}, expected at least 1")
    if config["context_size"] % config["patch_size"]:
        raise ConfigError(f"patch_size {config['patch_size']} does not divide context_size {config['context_size']}")
    if config["finetune"] and config["frn_depth"] < 1:
        raise ConfigError(f"frn_depth {config['frn_depth']}, expected at least 1 with finetune")
    if not 0 <= config["class_dropout_prob"] < 1:
        raise ConfigError(f"class_dropout_prob {config['class_dropout_prob']}, expected 0 to less than 1")
    choices = {"adaln_type": ("lora",), "rel_pos_embed": ("rope", None), "path_type": ("linear", "cosine")}
    for name, known in choices.items():
        if config[name] not in known:
            raise ConfigError(f"{name} {config[name]!r}, expected {' or '.join(map(str, known))}")
