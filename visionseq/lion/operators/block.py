"""What the operator blocks of LION (arXiv 2407.18232) share: a map of tokens with residuals, drop path and checkpoints.

A block maps groups of tokens, [G, L, d] -> [G, L, d], with its residuals inside. All blocks take the same keywords, so
that one can stand for another.

Shapes: B groups (or one row of N packed groups), T tokens, D channels.
"""

from torch import Tensor, nn

from visionseq.errors import ConfigError
from visionseq.kernels.segments import check_cu_seqlens
from visionseq.nn.checkpointing import recomputed
from visionseq.nn.mixers.packing import segment_of_token


class Block(nn.Module):
    """Base of the operator blocks.

    Args:
        with_cp: recompute the block in the backward pass rather than keep its activations.
        drop_path: probability that a residual branch is dropped for a group, in training.
    """

    def __init__(self, with_cp: bool, drop_path: float):
        super().__init__()
        if not 0 <= drop_path < 1:
            raise ConfigError(f"drop_path {drop_path}, expected 0 <= drop_path < 1")
        self.with_cp, self.drop_path = with_cp, drop_path

    def forward(self, x_BTD: Tensor, cu_seqlens: Tensor | None = None, reverse: bool = False) -> Tensor:
        """Map the tokens of each group, packed where `cu_seqlens` [N+1] is given; `reverse` reads them from the end."""
        check_cu_seqlens(x_BTD, cu_seqlens)
        if self.with_cp:
            return recomputed(self.block, x_BTD, cu_seqlens, reverse)
        return self.block(x_BTD, cu_seqlens, reverse)

    def block(self, x_BTD: Tensor, cu_seqlens: Tensor | None, reverse: bool) -> Tensor:
        """The block itself."""
        raise NotImplementedError

    def dropped(self, branch_BTD: Tensor, cu_seqlens: Tensor | None) -> Tensor:
        """The branch with whole groups set to zero, and the others scaled so that the mean stays."""
        if not self.training or self.drop_path == 0:
            return branch_BTD
        keep = 1 - self.drop_path
        groups = branch_BTD.shape[0] if cu_seqlens is None else cu_seqlens.shape[0] - 1
        kept = branch_BTD.new_empty(groups).bernoulli_(keep) / keep
        return branch_BTD * for_each_token(kept, branch_BTD, cu_seqlens)


def for_each_token(values_N: Tensor, x_BTD: Tensor, cu_seqlens: Tensor | None) -> Tensor:
    """Values of groups as a factor of their tokens, [B, 1, 1] or [1, T, 1]."""
    if cu_seqlens is None:
        return values_N.view(-1, 1, 1)
    return values_N[segment_of_token(cu_seqlens.to(x_BTD.device), x_BTD.shape[1])].view(1, -1, 1)
