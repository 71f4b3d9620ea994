"""The decoder layer of the TransFusion head (arXiv 2203.11496): each query sees its own neighbourhood of the map.

Legend: B samples, P proposals, D hidden channels, N cells of the map, L cells of a neighbourhood.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

REACH = 20  # cells that a proposal sees in each direction


class DecoderLayer(nn.Module):
    """One transformer decoder layer, post-norm, in which every query attends to its own neighbourhood alone."""

    def __init__(self, channels: int, heads: int, hidden: int, dropout: float, momentum: float):
        super().__init__()
        self.self_attn = nn.MultiheadAttention(channels, heads, dropout, batch_first=True)
        self.multihead_attn = nn.MultiheadAttention(channels, heads, dropout, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(channels), nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)
        self.self_posembed = PlaceEmbedding(channels, momentum)
        self.cross_posembed = PlaceEmbedding(channels, momentum)

    def forward(self, query_BPD: Tensor, cells_BND: Tensor, place_BP2: Tensor, shape: Sequence[int]) -> Tensor:
        """[B, P, D]: queries at integer places (ix, iy) of a map whose cells are [B, X * Y, D]."""
        index, outside = neighbourhood(place_BP2, shape)
        batch, proposals, _ = index.shape
        samples = torch.arange(batch, device=index.device)[:, None, None]
        keys = cells_BND[samples, index].flatten(0, 1)
        columns = shape[1]
        where = torch.stack([index.div(columns, rounding_mode="floor"), index % columns], -1).to(keys.dtype) + 0.5
        keys = keys + self.cross_posembed(where.flatten(0, 1))
        query = query_BPD.reshape(-1, 1, query_BPD.shape[2])
        place = self.self_posembed((place_BP2.to(keys.dtype) + 0.5).reshape(-1, 1, 2))
        alone = query + place
        query = self.norm1(query + self.dropout(self.self_attn(alone, alone, alone, need_weights=False)[0]))
        asked = query + place
        mask = outside.flatten(0, 1)
        seen = self.multihead_attn(asked, keys, keys, key_padding_mask=mask, need_weights=False)[0]
        query = self.norm2(query + self.dropout(seen))
        query = self.norm3(query + self.dropout(self.linear2(self.dropout(self.linear1(query).relu()))))
        return query.view(batch, proposals, -1)


class PlaceEmbedding(nn.Module):
    def __init__(self, channels: int, momentum: float):
        super().__init__()
        norm = nn.BatchNorm1d(channels, momentum=momentum)
        self.position_embedding_head = nn.Sequential(
            nn.Conv1d(2, channels, 1), norm, nn.ReLU(inplace=True), nn.Conv1d(channels, channels, 1)
        )

    def forward(self, place_NL2: Tensor) -> Tensor:
        """[N, L, 2] -> [N, L, D]."""
        return self.position_embedding_head(place_NL2.transpose(1, 2)).transpose(1, 2)


def neighbourhood(place_BP2: Tensor, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Numbers of the cells around each place int64 [B, P, L], and whether each is beyond the map.

    The arithmetic is on the flat map, as in the official code: beyond the border in y a row goes on in the next one.
    """
    rows, columns = shape
    steps = torch.arange(-REACH, REACH + 1, device=place_BP2.device)
    x, y = place_BP2[..., 0, None, None] + steps[:, None], place_BP2[..., 1, None, None] + steps[None]
    index = (x * rows + y).flatten(2)
    outside = (index < 0) | (index >= rows * columns)
    return index.clamp(0, rows * columns - 1), outside
