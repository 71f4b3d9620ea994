"""LION's operator blocks with the options under test."""

from collections.abc import Callable

from random_modules import DIM

from visionseq.lion.operators import Block, MambaBlock, RetNetBlock, RWKV6Block, TTTBlock, XLSTMBlock

BLOCKS: dict[str, Callable[..., Block]] = {
    "mamba": lambda **options: MambaBlock(DIM, d_state=4, **options),
    "mamba-prenorm": lambda **options: MambaBlock(DIM, d_state=4, post_norm=False, **options),
    "rwkv6": lambda **options: RWKV6Block(DIM, n_head=2, init_values=0.5, **options),
    "rwkv6-noscale": lambda **options: RWKV6Block(DIM, layer_id=1, n_layer=2, n_head=2, init_values=None, **options),
    "retnet": lambda **options: RetNetBlock(DIM, n_head=2, **options),
    "xlstm": lambda **options: XLSTMBlock(DIM, **options),
    "ttt": lambda **options: TTTBlock(DIM, n_head=2, mini_batch_size=4, **options),
    "ttt-mean": lambda **options: TTTBlock(DIM, n_head=2, mini_batch_size=4, bidirectional="mean", **options),
}
