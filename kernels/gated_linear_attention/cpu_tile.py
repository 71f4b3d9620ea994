"""The inner loop of the CPU kernels in LLVM's vectors: a tile of the state goes through time in registers.

Compiled from plain loops, every token would load and store the whole state; with a tile of ROWS x LANES of it in
registers, a token costs three instructions for LANES elements. LLVM splits the vectors where a processor has shorter
ones.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial, reduce
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from visionseq.kernels.tile_product import FAST, INDEX, LANES, ROWS, VECTOR, Matrix

PLACES = ("x", "y", "decay", "z", "out", "product", "row", "column", "first", "step", "count")


def make_sweep(
    *, decay_by_row: bool, before: bool = False, read: bool = True, keep: bool = False, against: bool = False
) -> Callable[..., None]:
    """A numba function that takes one tile S of a state, at `row` and `column` of it, through `count` tokens.

    sweep(block, state, kept, x, y, decay, z, out, product, row, column, first, step, count) does for each token t, from
    `first` on in steps of `step`:

        S = decay * S + x y^T          decay along the rows of S if `decay_by_row`, else along its columns
        out += z^T S                   if `read`, of the S before its update if `before`
        kept[row, t] = S               if `keep`, the S before its update
        product += sum over rows of kept[row, t] * S      if `against`, of the S that is read

    x, y, decay, z, out and product are the columns of `block` [t, ...] where these vectors begin, x and z over the rows
    of the state, y, out and product over its columns. kept is [row, t * LANES + lane]. All are float32, C-contiguous.
    """

    @intrinsic
    def sweep(typing, block, state, kept, x, y, decay, z, out, product, row, column, first, step, count):
        signature = types.void(block, state, kept, *[types.intp] * 11)

        def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Sequence[Any]) -> Any:
            matrices = [Matrix(context, builder, *pair) for pair in zip(signature.args[:3], arguments[:3], strict=True)]
            tile = _Tile(builder, *matrices, at=dict(zip(PLACES, arguments[3:], strict=True)))
            tile.generate(decay_by_row, before, read, keep, against)
            return context.get_dummy_value()

        return signature, generate

    return sweep


class _Tile:
    """A tile of the state and the code that takes it through time."""

    def __init__(self, builder: ir.IRBuilder, block: Matrix, state: Matrix, kept: Matrix, *, at: Mapping[str, Any]):
        self.builder, self.block, self.state, self.kept, self.at = builder, block, state, kept, at
        self.rows = [builder.add(at["row"], INDEX(r)) for r in range(ROWS)]

    def generate(self, decay_by_row: bool, before: bool, read: bool, keep: bool, against: bool) -> None:
        """The loop over the tokens; its values of i and of the tile are phi nodes."""
        builder, column = self.builder, self.at["column"]
        loaded = [self.state.load(row, column) for row in self.rows]
        entry, body, end = builder.block, builder.append_basic_block("token"), builder.append_basic_block("end")
        builder.cbranch(builder.icmp_signed(">", self.at["count"], INDEX(0)), body, end)
        builder.position_at_end(body)
        i, tile = builder.phi(INDEX), [builder.phi(VECTOR) for _ in self.rows]
        t = builder.add(self.at["first"], builder.mul(i, self.at["step"]))
        updated = self._update(t, tile, decay_by_row)
        self._use(t, tile, tile if before else updated, read, keep, against)
        following = builder.add(i, INDEX(1))
        builder.cbranch(builder.icmp_signed("<", following, self.at["count"]), body, end)
        builder.position_at_end(end)
        final = [builder.phi(VECTOR) for _ in self.rows]
        starts, ends = [INDEX(0), *loaded, *loaded], [following, *updated, *updated]
        for phi, start, value in zip([i, *tile, *final], starts, ends, strict=True):
            phi.add_incoming(start, entry)
            phi.add_incoming(value, body)
        for row, value in zip(self.rows, final, strict=True):
            self.state.store(value, row, column)

    def _update(self, t: Any, tile: Sequence[Any], decay_by_row: bool) -> list[Any]:
        y, decay = self._vector("y", t), None if decay_by_row else self._vector("decay", t)
        decays = self._scalars("decay", t) if decay_by_row else [decay] * ROWS
        rows = zip(self._scalars("x", t), decays, tile, strict=True)
        return [self._sum_of_products([(x, y), (decay, s)]) for x, decay, s in rows]

    def _use(self, t: Any, tile: Sequence[Any], seen: Sequence[Any], read: bool, keep: bool, against: bool) -> None:
        places = [(row, self.builder.mul(t, INDEX(LANES))) for row in self.rows]
        if keep:
            for value, place in zip(tile, places, strict=True):
                self.kept.store(value, *place)
        if read:
            self._add("out", t, zip(self._scalars("z", t), seen, strict=True))
        if against:
            self._add("product", t, zip([self.kept.load(*place) for place in places], seen, strict=True))

    def _scalars(self, name: str, t: Any) -> list[Any]:
        return [self.block.spread(t, self.builder.add(self.at[name], row)) for row in self.rows]

    def _vector(self, name: str, t: Any) -> Any:
        return self.block.load(t, self._columns(name))

    def _add(self, name: str, t: Any, pairs: Iterable[tuple[Any, Any]]) -> None:
        columns = self._columns(name)
        total = self.builder.fadd(self.block.load(t, columns), self._sum_of_products(pairs), flags=FAST)
        self.block.store(total, t, columns)

    def _columns(self, name: str) -> Any:
        return self.builder.add(self.at[name], self.at["column"])

    def _sum_of_products(self, pairs: Iterable[tuple[Any, Any]]) -> Any:
        """A chain that LLVM fuses where the processor can."""
        products = [self.builder.fmul(a, b, flags=FAST) for a, b in pairs]
        return reduce(partial(self.builder.fadd, flags=FAST), products)
