"""PatchTransformer: a small diffusion transformer for images that a U-Net makes slow on a CPU.

Patches become tokens with fixed 2D positions; blocks with adaptive layer norms (DiT, arXiv 2212.09748) see c_noise and
the class. A 28x28 image in patches of 4 has 49 tokens.

Legend: B batch, N tokens, D width.
"""

import torch
from torch import Tensor, nn

from visionseq.errors import ConfigError
from visionseq.nn.adaptive import AdaptiveBlock, AdaptiveOutput, Attention, FeedForward
from visionseq.nn.embeddings import FourierEmbedding, PatchEmbedding, TimeEmbedding, sincos_positions, unpatchify
from visionseq.rectified_flow.network import Network


class PatchTransformer(Network):
    """Transformer on patches: forward(x [B, C, H, W], noise_labels [B], class_labels [B, label_dim]) -> [B, C, H, W].

    Args:
        img_resolution, in_channels: size of the square image.
        patch_size: side of a patch; divides the resolution.
        width: D, a multiple of 4 and of num_heads.
        depth: number of blocks.
        num_heads: attention heads.
        mlp_ratio: width inside a block's MLP relative to D.
        num_frequencies: random frequencies of the noise features, a cosine and a sine each.
        label_dim: number of classes, 0 = unconditional; labels are one-hot [B, label_dim].
        label_dropout: probability of zeroing a label during training.

    The output starts at zero. Raises `ConfigError` for sizes that do not divide.
    """

    positions: Tensor

    def __init__(
        self,
        img_resolution: int,
        in_channels: int,
        patch_size: int = 4,
        width: int = 192,
        depth: int = 6,
        num_heads: int = 4,
        mlp_ratio: float = 4.0,
        num_frequencies: int = 64,
        label_dim: int = 0,
        label_dropout: float = 0.0,
    ):
        super().__init__(locals())
        if patch_size < 1 or img_resolution % patch_size:
            raise ConfigError(f"patch_size {patch_size} does not divide the resolution {img_resolution}")
        self.patch_size, side = patch_size, img_resolution // patch_size
        self.map_patch = PatchEmbedding(patch_size, in_channels, width)
        # c_noise = ln(sigma) / 4 spans a few units: frequencies around 1 resolve it without oscillating.
        self.map_noise = TimeEmbedding(width, FourierEmbedding(2 * num_frequencies, scale=1.0))
        self.map_label = nn.Linear(label_dim, width, bias=False) if label_dim else None
        self.register_buffer("positions", sincos_positions((side, side), width), persistent=False)
        self.blocks = nn.ModuleList(
            AdaptiveBlock(width, Attention(width, num_heads), FeedForward(width, int(width * mlp_ratio)))
            for _ in range(depth)
        )
        self.output = AdaptiveOutput(width, in_channels * patch_size**2)
        self._initialise()

    def forward(
        self, x: Tensor, noise_labels: Tensor, class_labels: Tensor | None = None, augment_labels: Tensor | None = None
    ) -> Tensor:
        h_BND = self.map_patch(x) + self.positions.to(x.dtype)
        c_BD = self._condition(noise_labels, class_labels).to(x.dtype).expand(len(x), -1)
        for block in self.blocks:
            h_BND = block(h_BND, c_BD)
        return unpatchify(self.output(h_BND, c_BD), self.patch_size, (x.shape[-2], x.shape[-1]))

    def _condition(self, noise_labels: Tensor, class_labels: Tensor | None) -> Tensor:
        """[B or 1, D]: noise level and class; no class adds nothing."""
        c_BD = self.map_noise(noise_labels)
        if self.map_label is None:
            return c_BD
        with torch.autocast(c_BD.device.type, enabled=False):
            return c_BD + self.map_label(self.one_hot(class_labels, like=c_BD))

    def _initialise(self) -> None:
        """Xavier for the maps of the blocks, small values for the embeddings; what starts at zero stays zero."""
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear) and module.weight.any():
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for layer in self.map_noise.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02)
        patches = self.map_patch.proj
        nn.init.xavier_uniform_(patches.weight.view(len(patches.weight), -1))
        if patches.bias is not None:
            nn.init.zeros_(patches.bias)
