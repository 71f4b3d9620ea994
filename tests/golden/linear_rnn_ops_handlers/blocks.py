"""LION's operator blocks and the original retention layer, with official weights loaded strictly."""

import torch
from golden_vector import GoldenVector
from torch import nn

from linear_rnn_ops_handlers.compare import check_gradients, close_in, dtypes_of, leaves_of
from visionseq.lion.operators import Block, MambaBlock, RetNetBlock, RWKV6Block, TTTBlock, XLSTMBlock
from visionseq.nn.mixers import MultiScaleRetention
from visionseq.nn.mixers.multi_scale_retention import angle_per_token
from visionseq.nn.mixers.retnet import retention_log_decay

SHAPES = ("L", "lens", "chunk", "shape", "dtype")  # of the inputs, or of a form: no arguments of a block
FIXED = ("shift_mode", "shift_pixel", "init_mode", "mode", "used_MLP")  # official options with a single usable value
INITIAL = 1e-6
ROTARY_TABLE = 1e-6  # it is float32, and the power function in it differs between processors
CHUNK_FORM = 1e-3  # of retention: it has normalisers of its own, which the head norm removes but for its eps


def check_block(kind: type[Block], f64: float, f32: float, lowest: float = 0.0):
    """A handler for files of one kind of block; `lowest` bounds the tolerances that the files state."""

    def check(vector: GoldenVector) -> None:
        for dtype, stated in dtypes_of(vector, f64, f32):
            tolerance = max(stated, lowest)
            block = kind(**_arguments(vector)).eval()
            _check_initial(vector, block)
            block = _loaded(vector, block, dtype)
            inputs = leaves_of(vector, dtype)
            for with_cp in (False, True):
                block.with_cp = with_cp
                y = block(inputs["x"], cu_seqlens=inputs.get("cu_seqlens"))
                close_in(vector, "out/y", y, tolerance, dtype)
                check_gradients(vector, {"y": y}, {**dict(block.named_parameters()), **inputs}, dtype, tolerance)
            if "out/y_reversed" in vector:  # each group read from its last token to its first
                y = block(inputs["x"], cu_seqlens=inputs.get("cu_seqlens"), reverse=True)
                close_in(vector, "out/y_reversed", y, tolerance, dtype)
            if "out/token_idx" in vector:
                vector.close("out/token_idx", block.seq_modeling_block.averages(torch.float64), tolerance)

    return check


def check_original_retention(vector: GoldenVector) -> None:
    config = vector.config
    angle = angle_per_token(config["embed_dim"] // config["heads"] // 2).repeat_interleave(2)
    vector.close("out/angle", angle, INITIAL)
    vector.close("out/decay_log", retention_log_decay(config["heads"], angle), INITIAL)
    for dtype, tolerance in dtypes_of(vector, 2e-7, 1e-4):
        layer = MultiScaleRetention(config["embed_dim"], config["heads"], config["value_dim"], parallel=True)
        layer = _loaded(vector, layer, dtype)
        inputs = leaves_of(vector, dtype)
        y, _ = layer(inputs["x"])
        close_in(vector, "out/y", y, tolerance, dtype)
        check_gradients(vector, {"y": y}, {**dict(layer.named_parameters()), **inputs}, dtype, tolerance)
        layer.parallel = False
        y, _ = layer(inputs["x"])
        close_in(vector, "out/y_recurrent", y, tolerance, dtype)
        vector.close("out/y_chunk", y, CHUNK_FORM)


def _arguments(vector: GoldenVector) -> dict:
    return {name: value for name, value in vector.config.items() if name not in SHAPES + FIXED}


def _loaded(vector: GoldenVector, module: nn.Module, dtype: torch.dtype) -> nn.Module:
    module = module.to(dtype)
    module.load_state_dict(vector.tensors("state/"), strict=True)
    return module


def _check_initial(vector: GoldenVector, block: nn.Module) -> None:
    vector.close_all("out/init/", block.state_dict(), INITIAL)


HANDLERS = {
    "mamba_block": check_block(MambaBlock, 1e-10, 1e-4),
    "rwkv6_block": check_block(RWKV6Block, 1e-9, 2e-4),
    "retnet_block": check_block(RetNetBlock, 1e-10, 1e-4),
    "xlstm_block": check_block(XLSTMBlock, 1e-9, 2e-4),
    "ttt_block": check_block(TTTBlock, ROTARY_TABLE, 2e-4, lowest=ROTARY_TABLE),
    "ttt_packed": check_block(TTTBlock, ROTARY_TABLE, 2e-4, lowest=ROTARY_TABLE),
    "retnet_torchscale": check_original_retention,
}
