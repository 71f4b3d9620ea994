"""What is timed: one row for an operator at one shape, with its inputs, options and peers.

Shapes are those of the models that use the operators, at a size that one core runs in milliseconds; the inputs are
float32 on the CPU and bfloat16 as well on a GPU.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, normalize, softplus

from visionseq import kernels
from visionseq.benchmarks.kernels import peers
from visionseq.benchmarks.kernels.log_depth_grid import log_depth_grid_scan

Draw = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Row:
    """One operator at one shape.

    Args:
        operator: name of its folder.
        shape: as the report shows it.
        function: the public function.
        inputs: name -> (shape, what normal numbers are mapped to).
        options: other keyword arguments.
        peers: name -> a function of the same inputs; its first result is differentiated.
        optional_peers: as `peers`, from packages of the extra `bench`.
    """

    operator: str
    shape: str
    function: Callable[..., tuple[Any, ...]]
    inputs: Mapping[str, tuple[tuple[int, ...], Draw]]
    options: Mapping[str, Any] = field(default_factory=dict)
    peers: Mapping[str, Callable[..., Tensor]] = field(default_factory=dict)
    optional_peers: Mapping[str, Callable[..., Tensor]] = field(default_factory=dict)

    def draw(self, device: str, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """The inputs, as leaves that want a gradient."""
        generator = torch.Generator().manual_seed(0)
        return {
            name: draw(torch.randn(shape, generator=generator)).to(device, dtype).requires_grad_()
            for name, (shape, draw) in self.inputs.items()
        }

    def ours(self, inputs: Mapping[str, Tensor], backend: str = "auto") -> Tensor:
        return self.function(**inputs, **self.options, backend=backend)[0]


def normal(x: Tensor) -> Tensor:
    return x


def decay(x: Tensor) -> Tensor:
    """Log decays between -1 and 0, most of them near 0, as trained models have them."""
    return logsigmoid(x + 3)


def unit(x: Tensor) -> Tensor:
    return normalize(x, dim=-1)


def linear_scan(batch: int, length: int, width: int) -> Row:
    shape = (batch, length, width)
    return Row(
        "linear_scan",
        f"B{batch} T{length} D{width}",
        kernels.linear_scan,
        {"a": (shape, torch.sigmoid), "b": (shape, normal)},
        peers={"torch associative_scan": peers.associative_scan},
    )


def selective_scan(batch: int, length: int, channels: int, states: int) -> Row:
    tokens, groups = (batch, length, channels), (batch, length, 1, states)
    return Row(
        "selective_scan",
        f"B{batch} T{length} E{channels} N{states}",
        kernels.selective_scan,
        {
            "u": (tokens, normal),
            "delta": (tokens, lambda x: x - 3),
            "A": ((channels, states), lambda x: -softplus(x) - 0.5),
            "B": (groups, normal),
            "C": (groups, normal),
            "D": ((channels,), normal),
            "z": (tokens, normal),
            "delta_bias": ((channels,), normal),
        },
        {"delta_softplus": True},
        {"reference function of Mamba, re-expressed": peers.mamba_reference},
    )


def attention_inputs(batch: int, length: int, heads: int, keys: int, values: int) -> dict[str, Any]:
    return {
        "q": ((batch, length, heads, keys), normal),
        "k": ((batch, length, heads, keys), normal),
        "v": ((batch, length, heads, values), normal),
    }


def scalar_gla(batch: int, length: int, heads: int, keys: int, values: int) -> Row:
    return Row(
        "gated_linear_attention",
        f"scalar decay, B{batch} T{length} H{heads} K{keys} V{values}",
        kernels.gated_linear_attention,
        attention_inputs(batch, length, heads, keys, values) | {"g": ((batch, length, heads), decay)},
        optional_peers={
            "fla naive recurrent": peers.fla_recurrent_simple_gla,
            "fla naive chunk": peers.fla_chunk_simple_gla,
        },
    )


def retention(batch: int, length: int, heads: int, keys: int, values: int) -> Row:
    return Row(
        "gated_linear_attention",
        f"fixed decay, bidirectional in chunks of 64, B{batch} T{length} H{heads} K{keys} V{values}",
        kernels.gated_linear_attention,
        attention_inputs(batch, length, heads, keys, values)
        | {"g": ((heads,), lambda x: torch.log1p(-(2.0 ** -(5 + torch.arange(len(x))))))},
        {"within": "bidirectional"},
    )


def rwkv6(batch: int, length: int, heads: int, size: int) -> Row:
    return Row(
        "gated_linear_attention",
        f"RWKV6 in both directions, B{batch} T{length} H{heads} K{size} V{size}",
        kernels.gated_linear_attention,
        attention_inputs(batch, length, heads, size, size)
        | {"g": ((batch, length, heads, size), decay), "bonus": ((heads, size), normal)},
        {"direction": "both", "scale": 1.0},
        optional_peers={"fla naive recurrent, twice": peers.fla_recurrent_rwkv6_both},
    )


def mlstm(batch: int, length: int, heads: int, size: int) -> Row:
    gates = ((batch, length, heads), normal)
    return Row(
        "mlstm",
        f"B{batch} T{length} H{heads} K{size} V{size}",
        kernels.mlstm,
        attention_inputs(batch, length, heads, size, size) | {"i": gates, "f": (gates[0], lambda x: x + 3)},
        peers={"parallel form, quadratic": peers.parallel_mlstm},
    )


def hybrid(batch: int, images: int, tokens: int, heads: int, size: int) -> Row:
    length = images * tokens
    return Row(
        "chunk_gated_attention",
        f"B{batch}, {images} images of {tokens} tokens, H{heads} K{size} V{size}",
        kernels.chunk_gated_attention,
        attention_inputs(batch, length, heads, size, size)
        | {"g": ((batch, length, heads), lambda x: logsigmoid(x) / 16)},
        {"chunk_size": tokens},
    )


def delta_net(batch: int, length: int, heads: int, size: int) -> Row:
    return Row(
        "delta_rule",
        f"DeltaNet, B{batch} T{length} H{heads} K{size} V{size}",
        kernels.delta_net,
        attention_inputs(batch, length, heads, size, size)
        | {"k": ((batch, length, heads, size), unit), "beta": ((batch, length, heads), torch.sigmoid)},
        optional_peers={"fla naive recurrent": peers.fla_delta_recurrence},
    )


def rwkv7(batch: int, length: int, heads: int, size: int) -> Row:
    shape = (batch, length, heads, size)
    return Row(
        "delta_rule",
        f"RWKV7, B{batch} T{length} H{heads} K{size} V{size}",
        kernels.delta_rule,
        attention_inputs(batch, length, heads, size, size)
        | {"a": (shape, unit), "b": (shape, lambda x: -unit(x) / 2), "g": (shape, decay)},
    )


def ttt(batch: int, length: int, heads: int, size: int) -> Row:
    row = ((batch, length, heads), lambda x: torch.sigmoid(x) / size)
    return Row(
        "ttt_linear",
        f"B{batch} T{length} H{heads} K{size}, mini-batches of 16",
        kernels.ttt_linear,
        attention_inputs(batch, length, heads, size, size)
        | {
            "eta_row": row,
            "eta_col": row,
            "norm_weight": ((heads, size), torch.ones_like),
            "norm_bias": ((heads, size), torch.zeros_like),
        },
    )


def grid_inputs(cells: tuple[int, ...], gates: tuple[int, ...], size: int) -> dict[str, Any]:
    half: Draw = lambda x: torch.sigmoid(x) / 2  # noqa: E731 (of two transitions, so that nothing grows)
    return (
        {name: ((*cells, size), normal) for name in "qkv"}
        | {name: (gates, normal) for name in ("source_r", "source_d", "mark_l", "mark_u")}
        | {name: (gates, half) for name in ("t_rl", "t_ru", "t_dl", "t_du")}
        | {"direct": (cells, normal)}
    )


def grid(batch: int, side: int, heads: int, size: int) -> Row:
    cells = (batch, side, side, heads)
    name = f"4 directions, {side}x{side}, B{batch} H{heads} K{size} V{size}"
    return Row(
        "grid_scan",
        name,
        kernels.grid_scan,
        grid_inputs(cells, (*cells, 4), size),
        {"directions": 4},
        {"log-depth form of pLSTM, re-expressed": log_depth_grid_scan},
    )


def strip(rows_: int, columns: int, heads: int, size: int) -> Row:
    cells = (1, rows_, columns, heads)
    name = f"1 direction, {rows_}x{columns}, H{heads} K{size} V{size}"
    return Row("grid_scan", name, kernels.grid_scan, grid_inputs(cells, cells, size), {"directions": 1})


def recurrent(cell: str, batch: int, length: int, heads: int, size: int) -> Row:
    gates = {"lstm": (4, 4, 4), "gru": (3, 3, 4), "slstm": (4, 4, 4), "elman": (1, 1, 1)}[cell]
    small: Draw = lambda x: x / size**0.5  # noqa: E731
    return Row(
        "recurrent_cell",
        f"{cell}, B{batch} T{length} H{heads} D{size}",
        kernels.recurrent_cell,
        {
            "x": ((batch, length, gates[0], heads, size), normal),
            "R": ((gates[1], heads, size, size), small),
            "b": ((gates[2], heads, size), small),
        },
        {"cell": cell, "outputs_only": True},
    )


def lif(length: int, batch: int, channels: int, pixels: int) -> Row:
    return Row(
        "lif_scan",
        f"T{length} [{batch}, {channels}, {pixels}]",
        kernels.lif_scan,
        {
            "x": ((batch, length, channels, pixels), normal),
            "leak": ((channels,), torch.sigmoid),
            "threshold": ((channels,), lambda x: x.abs() / 2 + 0.3),
        },
        {"reset": "hard", "surrogate": "arctan"},
        optional_peers={"spikingjelly, torch backend": peers.spikingjelly_lif},
    )


def rows() -> list[Row]:
    """The rows of the report."""
    return [
        linear_scan(4, 1024, 512),
        linear_scan(64, 8, 4096),
        selective_scan(2, 512, 128, 16),
        selective_scan(1, 2048, 256, 16),
        scalar_gla(1, 1024, 4, 64, 64),
        scalar_gla(2, 512, 2, 32, 64),
        retention(1, 1024, 4, 32, 64),
        rwkv6(1, 1024, 4, 32),
        rwkv6(1, 1024, 4, 16),
        mlstm(1, 1024, 4, 32),
        hybrid(1, 5, 256, 12, 64),
        delta_net(1, 1024, 4, 64),
        rwkv7(1, 512, 4, 64),
        ttt(1, 1024, 4, 16),
        grid(1, 14, 6, 64),
        grid(1, 12, 6, 32),
        recurrent("lstm", 1, 1024, 4, 64),
        recurrent("lstm", 4, 512, 4, 64),
        recurrent("lstm", 16, 256, 4, 64),
        recurrent("lstm", 16, 128, 1, 256),
        recurrent("slstm", 16, 256, 4, 64),
        recurrent("gru", 16, 256, 4, 64),
        lif(10, 2, 32, 4096),
        lif(10, 1, 64, 6912),
    ]


def growing(length: int) -> dict[str, Row]:
    """A row for each operator, of `length` tokens: so small that the longest takes well under a second."""
    return {
        "linear_scan": linear_scan(1, length, 256),
        "selective_scan": selective_scan(1, length, 32, 16),
        "gated_linear_attention, scalar": scalar_gla(1, length, 2, 32, 32),
        "gated_linear_attention, RWKV6 in both directions": rwkv6(1, length, 2, 16),
        "mlstm": mlstm(1, length, 2, 16),
        "chunk_gated_attention": hybrid(1, length // 64, 64, 2, 16),
        "delta_rule": delta_net(1, length, 2, 16),
        "ttt_linear": ttt(1, length, 2, 16),
        "grid_scan, 8 columns": strip(length // 8, 8, 2, 16),
        "recurrent_cell": recurrent("lstm", 2, length, 2, 16),
        "lif_scan": lif(length, 1, 4, 64),
    }
