"""Products of small matrices for the CPU kernels: a tile of the result stays in registers while the depth goes by."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from visionseq.kernels.compiled import inlined
from visionseq.kernels.gated_linear_attention.cpu_tile import FAST, INDEX, LANES, ROWS, VECTOR, Matrix


def make_product(*, transposed: bool) -> Callable[..., None]:
    """A numba function for one tile, ROWS x LANES, of out += z s, or out += z^T s if `transposed`.

    product(out, z, s, row, column, z_row, z_column, s_row, s_column, depth) adds to out[row + r, column + lane] the sum
    over d of z[z_row + r, z_column + d] * s[s_row + d, s_column + lane]; `transposed` exchanges r and d in z. All are
    float32, C-contiguous.
    """

    @intrinsic
    def product(typing, out, z, s, row, column, z_row, z_column, s_row, s_column, depth):
        signature = types.void(out, z, s, *[types.intp] * 7)

        def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Sequence[Any]) -> Any:
            pairs = zip(signature.args[:3], arguments[:3], strict=True)
            _generate(builder, *(Matrix(context, builder, *pair) for pair in pairs), *arguments[3:], transposed)
            return context.get_dummy_value()

        return signature, generate

    return product


def _generate(
    builder: ir.IRBuilder,
    out: Matrix,
    z: Matrix,
    s: Matrix,
    row: Any,
    column: Any,
    z_row: Any,
    z_column: Any,
    s_row: Any,
    s_column: Any,
    depth: Any,
    transposed: bool,
) -> None:
    """The loop over the depth; its values of d and of the tile are phi nodes."""
    rows = [builder.add(row, INDEX(r)) for r in range(ROWS)]
    loaded = [out.load(i, column) for i in rows]
    entry, body, end = builder.block, builder.append_basic_block("depth"), builder.append_basic_block("end")
    builder.cbranch(builder.icmp_signed(">", depth, INDEX(0)), body, end)
    builder.position_at_end(body)
    d, tile = builder.phi(INDEX), [builder.phi(VECTOR) for _ in rows]
    vector = s.load(builder.add(s_row, d), s_column)
    if transposed:
        scalars = [z.spread(builder.add(z_row, d), builder.add(z_column, INDEX(r))) for r in range(ROWS)]
    else:
        scalars = [z.spread(builder.add(z_row, INDEX(r)), builder.add(z_column, d)) for r in range(ROWS)]
    multiply, add = partial(builder.fmul, flags=FAST), partial(builder.fadd, flags=FAST)
    sums = [add(t, multiply(scalar, vector)) for t, scalar in zip(tile, scalars, strict=True)]
    following = builder.add(d, INDEX(1))
    builder.cbranch(builder.icmp_signed("<", following, depth), body, end)
    builder.position_at_end(end)
    final = [builder.phi(VECTOR) for _ in rows]
    starts, ends = [INDEX(0), *loaded, *loaded], [following, *sums, *sums]
    for phi, start, value in zip([d, *tile, *final], starts, ends, strict=True):
        phi.add_incoming(start, entry)
        phi.add_incoming(value, body)
    for i, value in zip(rows, final, strict=True):
        out.store(value, i, column)


tile_of_product = make_product(transposed=False)
tile_of_transposed_product = make_product(transposed=True)


@inlined
def add_product(out, z, s, column, z_column, s_column, height, width, depth):
    """out[i, column + j] += sum_d z[i, z_column + d] s[d, s_column + j] for whole tiles of height x width."""
    for j in range(0, width, LANES):
        for i in range(0, height, ROWS):
            tile_of_product(out, z, s, i, column + j, i, z_column, 0, s_column + j, depth)


@inlined
def add_transposed_product(out, z, s, column, z_column, s_column, height, width, depth):
    """out[i, column + j] += sum_d z[d, z_column + i] s[d, s_column + j]."""
    for j in range(0, width, LANES):
        for i in range(0, height, ROWS):
            tile_of_transposed_product(out, z, s, i, column + j, 0, z_column + i, 0, s_column + j, depth)
