"""LION's operator blocks and the original retention layer, with official weights loaded strictly."""

import torch
from golden_vector import GoldenVector
from torch import Tensor, nn

from linear_rnn_ops_handlers.compare import check_gradients, close, dtypes_of, leaves_of
from visionseq.lion.operators import Block, MambaBlock, RetNetBlock, RWKV6Block, TTTBlock, XLSTMBlock
from visionseq.nn.mixers import MultiScaleRetention
from visionseq.nn.mixers.multi_scale_retention import angle_per_token
from visionseq.nn.mixers.retnet import retention_log_decay

SHAPES = ("L", "lens", "chunk")  # of the inputs, or of a form: no arguments of a block
FIXED = ("shift_mode", "shift_pixel", "init_mode", "mode", "used_MLP")  # official options with a single usable value
INITIAL = 1e-6
CHUNK_FORM = 1e-3  # of retention: it has normalisers of its own, which the head norm removes but for its eps


def check_block(kind: type[Block], f64: float, f32: float):
    """A handler for files of one kind of block."""

    def check(vector: GoldenVector) -> None:
        for dtype, tolerance in dtypes_of(vector, f64, f32):
            block = kind(**_arguments(vector)).eval()
            _check_initial(vector, block)
            block = _loaded(vector, block, dtype)
            inputs = leaves_of(vector, dtype)
            for with_cp in (False, True):
                block.with_cp = with_cp
                y = block(inputs["x"], cu_seqlens=inputs.get("cu_seqlens"))
                close("y", y, vector["out/y"], tolerance, dtype)
                check_gradients(vector, {"y": y}, {**dict(block.named_parameters()), **inputs}, dtype, tolerance)
            if "out/y_reversed" in vector:
                _check_reversed(vector, block, inputs, tolerance)
            if "out/token_idx" in vector:
                averages = block.seq_modeling_block.averages(torch.float64)
                close("token_idx", averages, vector["out/token_idx"], tolerance)

    return check


def check_original_retention(vector: GoldenVector) -> None:
    config = vector.config
    angle = angle_per_token(config["embed_dim"] // config["heads"] // 2).repeat_interleave(2)
    close("angle", angle, vector["out/angle"], INITIAL)
    close("decay_log", retention_log_decay(config["heads"], angle), vector["out/decay_log"], INITIAL)
    for dtype, tolerance in dtypes_of(vector, 2e-7, 1e-4):
        layer = MultiScaleRetention(config["embed_dim"], config["heads"], config["value_dim"], parallel=True)
        layer = _loaded(vector, layer, dtype)
        inputs = leaves_of(vector, dtype)
        y, _ = layer(inputs["x"])
        close("y", y, vector["out/y"], tolerance, dtype)
        check_gradients(vector, {"y": y}, {**dict(layer.named_parameters()), **inputs}, dtype, tolerance)
        layer.parallel = False
        y, _ = layer(inputs["x"])
        close("y_recurrent", y, vector["out/y_recurrent"], tolerance, dtype)
        close("y_chunk", y, vector["out/y_chunk"], CHUNK_FORM)


def _arguments(vector: GoldenVector) -> dict:
    return {name: value for name, value in vector.config.items() if name not in SHAPES + FIXED}


def _loaded(vector: GoldenVector, module: nn.Module, dtype: torch.dtype) -> nn.Module:
    module = module.to(dtype)
    module.load_state_dict(vector.tensors("state/"), strict=True)
    return module


def _check_initial(vector: GoldenVector, block: nn.Module) -> None:
    state = block.state_dict()
    for name, value in vector.tensors("out/init/").items():
        close(f"init/{name}", state[name], value, INITIAL)


def _check_reversed(vector: GoldenVector, block: Block, inputs: dict[str, Tensor], tolerance: float) -> None:
    """Each group read from its last token to its first."""
    y = block(inputs["x"], cu_seqlens=inputs["cu_seqlens"], reverse=True)
    close("y_reversed", y, vector["out/y_reversed"], tolerance)


HANDLERS = {
    "mamba_block": check_block(MambaBlock, 1e-10, 1e-4),
    "rwkv6_block": check_block(RWKV6Block, 1e-9, 2e-4),
    "retnet_block": check_block(RetNetBlock, 1e-10, 1e-4),
    "xlstm_block": check_block(XLSTMBlock, 1e-9, 2e-4),
    "ttt_block": check_block(TTTBlock, 1e-7, 2e-4),
    "ttt_packed": check_block(TTTBlock, 1e-7, 2e-4),
    "retnet_torchscale": check_original_retention,
}
