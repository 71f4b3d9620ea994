"""The operator blocks of LION (arXiv 2407.18232): one token mixer each, with residuals and norms inside.

All take the same keywords, so that one can stand for another: `block(d_model, layer_id=, n_layer=, ...)` maps
[groups, tokens, d_model].
"""

from visionseq.lion.operators.block import Block
from visionseq.lion.operators.mamba import MambaBlock
from visionseq.lion.operators.retnet import RetNetBlock
from visionseq.lion.operators.rwkv6 import RWKV6Block
from visionseq.lion.operators.ttt import TTTBlock
from visionseq.lion.operators.xlstm import XLSTMBlock

__all__ = ["Block", "MambaBlock", "RWKV6Block", "RetNetBlock", "TTTBlock", "XLSTMBlock"]
