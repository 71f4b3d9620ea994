"""Products of small matrices in LLVM's vectors: a tile of the result stays in registers while the depth goes by."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

ROWS, LANES = 4, 16
FAST = ("contract", "reassoc", "nsz")
INDEX, LANE_INDEX = ir.IntType(64), ir.IntType(32)
VECTOR = ir.VectorType(ir.FloatType(), LANES)
UNDEFINED = ir.Constant(VECTOR, ir.Undefined)
ALL_FIRST = ir.Constant(ir.VectorType(LANE_INDEX, LANES), [0] * LANES)


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
            matrices = tuple(Matrix(context, builder, *pair) for pair in pairs)
            _generate(builder, matrices, *arguments[3:], transposed=transposed)
            return context.get_dummy_value()

        return signature, generate

    return product


class Matrix:
    """A contiguous array of two axes, read and written by the vector."""

    def __init__(self, context: Any, builder: ir.IRBuilder, kind: Any, value: Any):
        array = context.make_array(kind)(context, builder, value)
        self.builder, self.data = builder, array.data
        self.width = builder.extract_value(array.shape, 1)

    def load(self, i: Any, j: Any) -> Any:
        return self.builder.load(self._vector(i, j), align=4)

    def store(self, value: Any, i: Any, j: Any) -> None:
        self.builder.store(value, self._vector(i, j), align=4)

    def spread(self, i: Any, j: Any) -> Any:
        """One element in all lanes."""
        one = self.builder.insert_element(UNDEFINED, self.builder.load(self._place(i, j)), LANE_INDEX(0))
        return self.builder.shuffle_vector(one, UNDEFINED, ALL_FIRST)

    def _place(self, i: Any, j: Any) -> Any:
        return self.builder.gep(self.data, [self.builder.add(self.builder.mul(i, self.width), j)])

    def _vector(self, i: Any, j: Any) -> Any:
        return self.builder.bitcast(self._place(i, j), VECTOR.as_pointer())


def _generate(
    builder: ir.IRBuilder,
    matrices: tuple[Matrix, ...],
    row: Any,
    column: Any,
    z_row: Any,
    z_column: Any,
    s_row: Any,
    s_column: Any,
    depth: Any,
    *,
    transposed: bool,
) -> None:
    """The loop over the depth of the product of z and s; its values of d and of the tile are phi nodes."""
    # the tile of out, and the entry of the loop
    out, z, s = matrices
    rows = [builder.add(row, INDEX(r)) for r in range(ROWS)]
    loaded = [out.load(i, column) for i in rows]
    entry, body, end = builder.block, builder.append_basic_block("depth"), builder.append_basic_block("end")
    builder.cbranch(builder.icmp_signed(">", depth, INDEX(0)), body, end)
    builder.position_at_end(body)
    d, tile = builder.phi(INDEX), [builder.phi(VECTOR) for _ in rows]

    # one step: a row of s times a column of z
    vector = s.load(builder.add(s_row, d), s_column)
    if transposed:
        scalars = [z.spread(builder.add(z_row, d), builder.add(z_column, INDEX(r))) for r in range(ROWS)]
    else:
        scalars = [z.spread(builder.add(z_row, INDEX(r)), builder.add(z_column, d)) for r in range(ROWS)]
    multiply, add = partial(builder.fmul, flags=FAST), partial(builder.fadd, flags=FAST)
    sums = [add(t, multiply(scalar, vector)) for t, scalar in zip(tile, scalars, strict=True)]

    # the end of the loop, and what its phi nodes hold
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
