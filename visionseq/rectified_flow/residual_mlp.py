"""ResidualMLP: a small network for small images, to show the method within minutes on a CPU.

The flattened image and Fourier features of c_noise enter a linear layer; residual SiLU layers of constant width follow,
each of which sees the features again: h <- h + silu(W [h, features]). 263 thousand parameters for 8x8x1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionseq.nn.embeddings import FourierEmbedding
from visionseq.rectified_flow.network import Network


class ResidualMLP(Network):
    """Fully connected network: forward(x [B, C, H, W], noise_labels [B], class_labels [B, label_dim]) -> [B, C, H, W].

    Args:
        img_resolution, in_channels: size of the square image.
        hidden: width; num_blocks: residual layers.
        num_frequencies: random frequencies of the noise features, a cosine and a sine each.
        label_dim: number of classes, 0 = unconditional; one-hot labels join the features.
    """

    def __init__(
        self,
        img_resolution: int,
        in_channels: int,
        hidden: int = 256,
        num_blocks: int = 3,
        num_frequencies: int = 16,
        label_dim: int = 0,
    ):
        super().__init__(locals())
        pixels, features = in_channels * img_resolution**2, 2 * num_frequencies + label_dim
        # c_noise = ln(sigma) / 4 spans a few units: frequencies around 1 resolve it without oscillating.
        self.map_noise = FourierEmbedding(2 * num_frequencies, scale=1.0)
        self.input = nn.Linear(pixels + features, hidden)
        self.blocks = nn.ModuleList(nn.Linear(hidden + features, hidden) for _ in range(num_blocks))
        self.output = nn.Linear(hidden, pixels)

    def forward(
        self, x: Tensor, noise_labels: Tensor, class_labels: Tensor | None = None, augment_labels: Tensor | None = None
    ) -> Tensor:
        x_BP = x.flatten(1)
        features = self.map_noise(noise_labels.float())
        if self.label_dim:
            labels = self.one_hot(class_labels, like=features)
            rows = max(len(features), len(labels))
            features = torch.cat([features.expand(rows, -1), labels.expand(rows, -1)], dim=1)
        features = features.to(x.dtype).expand(len(x_BP), -1)
        h = F.silu(self.input(torch.cat([x_BP, features], dim=1)))
        for layer in self.blocks:
            h = h + F.silu(layer(torch.cat([h, features], dim=1)))
        return self.output(h).view_as(x)
