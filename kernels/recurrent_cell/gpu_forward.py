"""The forward of recurrent networks in Triton; the equations are in `reference`.

The states that one token leaves in memory are read by all threads of the program at the next one, hence the barrier.
"""

import triton
import triton.language as tl

ELMAN, LSTM, GRU, SLSTM = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2), tl.constexpr(3)


@triton.jit
def run_forward(
    x,
    R,
    b,
    offsets,
    order,
    states,
    gates,
    rows,
    segments,
    heads,
    units,
    floor,
    limit,
    CELL: tl.constexpr,
    INPUTS: tl.constexpr,
    STATES: tl.constexpr,
    KEEP: tl.constexpr,
    REVERSE: tl.constexpr,
    UNITS: tl.constexpr,
    BATCH: tl.constexpr,
):
    h = tl.program_id(0)
    n, start, length = sequences(offsets, order, segments, tl.program_id(1), BATCH)
    for i in range(tl.max(length, 0)):
        alive = i < length
        t = start + (length - 1 - i if REVERSE else i)
        t_before = tl.where(i == 0, rows + n, t + (1 if REVERSE else -1))
        for low in range(0, units, UNITS):
            # R y_{t-1} of a block of units, for each gate
            unit = low + tl.arange(0, UNITS)
            mask = alive[:, None] & (unit < units)[None, :]
            one = _product(R, states, t_before, alive, 0, h, heads, units, unit, STATES, UNITS, BATCH)
            if CELL != ELMAN:
                two = _product(R, states, t_before, alive, 1, h, heads, units, unit, STATES, UNITS, BATCH)
                three = _product(R, states, t_before, alive, 2, h, heads, units, unit, STATES, UNITS, BATCH)
            if (CELL == LSTM) | (CELL == SLSTM):
                four = _product(R, states, t_before, alive, 3, h, heads, units, unit, STATES, UNITS, BATCH)

            # where the token's inputs and results lie
            out = at(states, t, STATES, h, heads, units, unit)
            before = at(states, t_before, STATES, h, heads, units, unit)
            inner = at(x, t, INPUTS, h, heads, units, unit)
            kept = at(gates, t, 4, h, heads, units, unit)
            bias = b + h * units + unit[None, :]
            wide = heads * units
            known = (unit < units)[None, :]

            # the cell
            if CELL == ELMAN:
                tl.store(out, tanh(one + _gate(inner, bias, mask, known)), mask=mask)
            elif CELL == GRU:
                one += _load(bias, known)
                r = tl.sigmoid(two + _gate(inner, bias + wide, mask, known))
                z = tl.sigmoid(three + _gate(inner + wide, bias + 2 * wide, mask, known))
                new = tanh(_gate(inner + 2 * wide, bias + 3 * wide, mask, known) + r * one)
                y = z * tl.load(before, mask=mask, other=0.0) + (1.0 - z) * new
                tl.store(out, y, mask=mask)
                if KEEP:
                    _keep(kept, wide, mask, one, r, z, new)
            else:
                i_gate = one + _gate(inner, bias, mask, known)
                f = two + _gate(inner + wide, bias + wide, mask, known)
                z = tanh(three + _gate(inner + 2 * wide, bias + 2 * wide, mask, known))
                o = tl.sigmoid(four + _gate(inner + 3 * wide, bias + 3 * wide, mask, known))
                c = tl.load(before + wide, mask=mask, other=0.0)
                if CELL == LSTM:
                    i_gate = tl.sigmoid(i_gate)
                    f = tl.sigmoid(f)
                    c = f * c + i_gate * z
                    y = o * tanh(c)
                else:
                    norm = tl.load(before + 2 * wide, mask=mask, other=1.0)
                    s = tl.load(before + 3 * wide, mask=mask, other=0.0) + log_sigmoid(f)
                    m = tl.where((norm == 0.0) | (i_gate > s), i_gate, s)
                    forget = tl.exp(tl.minimum(s - m, limit))
                    taken = tl.exp(i_gate - m)
                    c = forget * c + taken * z
                    norm = tl.maximum(forget * norm + taken, floor)
                    y = o * c / norm
                    tl.store(out + 2 * wide, norm, mask=mask)
                    tl.store(out + 3 * wide, m, mask=mask)
                tl.store(out, y, mask=mask)
                tl.store(out + wide, c, mask=mask)
                if KEEP:
                    _keep(kept, wide, mask, i_gate, f, z, o)
        tl.debug_barrier()


@triton.jit
def sequences(offsets, order, segments, block, BATCH: tl.constexpr):
    """Segments of a block, their first rows and lengths; those that are not there have the length 0."""
    place = block * BATCH + tl.arange(0, BATCH)
    there = place < segments
    n = tl.load(order + place, mask=there, other=0)
    start = tl.load(offsets + n)
    return n, start, tl.where(there, tl.load(offsets + n + 1) - start, 0)


@triton.jit
def at(tensor, row, COUNT: tl.constexpr, h, heads, units, unit):
    """Addresses [BATCH, UNITS] in tensor [rows, COUNT, heads, units], of the first of the COUNT."""
    return tensor + (row[:, None] * COUNT * heads + h) * units + unit[None, :]


@triton.jit
def tanh(x):
    return 2.0 * tl.sigmoid(2.0 * x) - 1.0


@triton.jit
def log_sigmoid(x):
    return tl.minimum(x, 0.0) - tl.log(1.0 + tl.exp(-tl.abs(x)))


@triton.jit
def _product(
    R,
    states,
    t_before,
    alive,
    g,
    h,
    heads,
    units,
    unit,
    STATES: tl.constexpr,
    UNITS: tl.constexpr,
    BATCH: tl.constexpr,
):
    """R_g y_{t-1}, [BATCH, UNITS]; one gate at a time, or its weights would not fit into the registers."""
    total = tl.zeros([BATCH, UNITS], tl.float32)
    for low in tl.range(0, units, UNITS, num_stages=1):
        other = low + tl.arange(0, UNITS)
        y = _load(at(states, t_before, STATES, h, heads, units, other), alive[:, None] & (other < units)[None, :])
        weight = R + ((g * heads + h) * units + unit[None, :]) * units + other[:, None]
        tile = _load(weight, (unit < units)[None, :] & (other < units)[:, None])
        total = tl.dot(y, tile, total, input_precision="ieee")
    return total


@triton.jit
def _load(address, mask):
    return tl.load(address, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _gate(x, b, mask, known):
    return _load(x, mask) + _load(b, known)


@triton.jit
def _keep(kept, wide, mask, one, two, three, four):
    tl.store(kept, one, mask=mask)
    tl.store(kept + wide, two, mask=mask)
    tl.store(kept + 2 * wide, three, mask=mask)
    tl.store(kept + 3 * wide, four, mask=mask)
