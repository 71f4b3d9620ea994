"""The LION block: layers on ever coarser grids and back, with skips (arXiv 2407.18232, figure 3)."""

from collections.abc import Sequence

from torch import nn

from visionseq.lion.layer import LIONLayer, Operator, PositionEmbedding
from visionseq.lion.merge import PatchMerging3D
from visionseq.nn.sparse import SparseTensor


class LIONBlock(nn.Module):
    """Encoder of `depth` layers with merging after each, then a decoder of as many.

    Args:
        dim: channels.
        build: makes an operator block.
        depth: layers of the encoder.
        down_scales: x, y, z for each merging.
        window_shape, group_size: of all layers, at every scale.
        shift: whether every second layer has shifted windows.
        layer_id, n_layer: number of the first operator block, and of all blocks of the network.
        direction: as in `LIONLayer`.
    """

    def __init__(
        self,
        dim: int,
        build: Operator,
        depth: int,
        down_scales: Sequence[Sequence[int]],
        window_shape: Sequence[int],
        group_size: int,
        shift: bool = True,
        layer_id: int = 0,
        n_layer: int = 1,
        direction: Sequence[str] = ("x", "y"),
    ):
        super().__init__()

        def layers(first: int) -> nn.ModuleList:
            return nn.ModuleList(
                LIONLayer(
                    dim,
                    build,
                    window_shape,
                    group_size,
                    shift=shift and i % 2 == 1,
                    layer_id=layer_id + (first + i) * len(direction),
                    n_layer=n_layer,
                    direction=direction,
                )
                for i in range(depth)
            )

        self.encoder = layers(0)
        self.downsample_list = nn.ModuleList(PatchMerging3D(dim, scale) for scale in down_scales)
        self.pos_emb_list = nn.ModuleList(PositionEmbedding(dim) for _ in range(depth))
        self.decoder = layers(depth)
        self.decoder_norm = nn.ModuleList(nn.LayerNorm(dim) for _ in range(depth))

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Features [V, C] -> [V, C] on the same sites."""
        skips = []
        for layer, embedding, merge in zip(self.encoder, self.pos_emb_list, self.downsample_list, strict=True):
            x = layer(x.with_features(x.features + embedding(x)))
            merged = merge(x)
            skips.append((x, merged.coarse))
            x = merged.tensor
        for layer, norm in zip(self.decoder, self.decoder_norm, strict=True):
            fine, coarse = skips.pop()
            x = fine.with_features(norm(fine.features + layer(x).features.index_select(0, coarse)))
        return x
