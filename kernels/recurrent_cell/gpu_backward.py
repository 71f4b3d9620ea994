"""The backward of recurrent networks in Triton; the equations are in `adjoints`.

`adjoint` comes with the gradient of the final states and leaves with that of the initial ones. Gradients that one half
of a step has left in memory are read by all threads in the other half, hence the barriers.
"""

import triton
import triton.language as tl

from visionseq.kernels.recurrent_cell.gpu_forward import ELMAN, GRU, LSTM, at, log_sigmoid, sequences, tanh


@triton.jit
def run_backward(
    R,
    offsets,
    order,
    states,
    gates,
    d_states,
    d_sums,
    adjoint,
    rows,
    segments,
    heads,
    units,
    floor,
    limit,
    clip,
    HAS_D_STATES: tl.constexpr,
    CELL: tl.constexpr,
    RECURRENT: tl.constexpr,
    BIASES: tl.constexpr,
    STATES: tl.constexpr,
    CUT: tl.constexpr,
    REVERSE: tl.constexpr,
    UNITS: tl.constexpr,
    BATCH: tl.constexpr,
):
    h = tl.program_id(0)
    n, start, length = sequences(offsets, order, segments, tl.program_id(1), BATCH)
    longest = tl.max(length, 0)
    wide = heads * units
    for j in range(longest):
        i = longest - 1 - j
        alive = i < length
        t = start + (length - 1 - i if REVERSE else i)
        t_before = tl.where(i == 0, rows + n, t + (1 if REVERSE else -1))
        # through the cell: the gradients of its gates, and of the states before
        for low in range(0, units, UNITS):
            unit = low + tl.arange(0, UNITS)
            mask = alive[:, None] & (unit < units)[None, :]
            carry = at(adjoint, n, STATES, h, heads, units, unit)
            upstream = carry
            if HAS_D_STATES:
                upstream = at(d_states, t, STATES, h, heads, units, unit)
            now = at(states, t, STATES, h, heads, units, unit)
            before = at(states, t_before, STATES, h, heads, units, unit)
            kept = at(gates, t, 4, h, heads, units, unit)
            out = at(d_sums, t, BIASES, h, heads, units, unit)
            dy = _total(carry, upstream, mask, HAS_D_STATES)
            if CELL == ELMAN:
                y = _load(now, mask)
                tl.store(out, dy * (1.0 - y * y), mask=mask)
                tl.store(carry, tl.zeros_like(dy), mask=mask)
            elif CELL == GRU:
                _gru(dy, carry, before, kept, out, wide, mask)
            elif CELL == LSTM:
                _lstm(dy, carry, upstream, before, now, kept, out, wide, mask, HAS_D_STATES)
            else:
                d_c = _total(carry + wide, upstream + wide, mask, HAS_D_STATES)
                d_n = _total(carry + 2 * wide, upstream + 2 * wide, mask, HAS_D_STATES)
                d_m = _total(carry + 3 * wide, upstream + 3 * wide, mask, HAS_D_STATES)
                _slstm(dy, d_c, d_n, d_m, carry, before, now, kept, out, wide, mask, floor, limit)

        # through the recurrent weights to y_{t-1}
        if not CUT:
            tl.debug_barrier()
            for low in range(0, units, UNITS):
                unit = low + tl.arange(0, UNITS)
                mask = alive[:, None] & (unit < units)[None, :]
                carry = at(adjoint, n, STATES, h, heads, units, unit)
                total = _through_weights(R, d_sums, t, alive, h, heads, units, unit, RECURRENT, BIASES, UNITS, BATCH)
                total = tl.minimum(tl.maximum(total, -clip), clip)
                tl.store(carry, _load(carry, mask) + total, mask=mask)
        tl.debug_barrier()


@triton.jit
def _through_weights(
    R,
    d_sums,
    t,
    alive,
    h,
    heads,
    units,
    unit,
    RECURRENT: tl.constexpr,
    BIASES: tl.constexpr,
    UNITS: tl.constexpr,
    BATCH: tl.constexpr,
):
    """sum_g R_g^T d_g, [BATCH, UNITS]."""
    total = tl.zeros([BATCH, UNITS], tl.float32)
    for g in range(RECURRENT):
        for low in tl.range(0, units, UNITS, num_stages=1):
            other = low + tl.arange(0, UNITS)
            d = at(d_sums, t, BIASES, h, heads, units, other) + g * heads * units
            weight = R + ((g * heads + h) * units + other[:, None]) * units + unit[None, :]
            d_gate = _load(d, alive[:, None] & (other < units)[None, :])
            tile = _load(weight, (other < units)[:, None] & (unit < units)[None, :])
            total = tl.dot(d_gate, tile, total, input_precision="ieee")
    return total


@triton.jit
def _lstm(dy, carry, upstream, before, now, kept, out, wide, mask, HAS_D_STATES: tl.constexpr):
    o, c = _load(kept + 3 * wide, mask), tanh(_load(now + wide, mask))
    tl.store(out + 3 * wide, dy * c * o * (1.0 - o), mask=mask)
    tl.store(carry, tl.zeros_like(dy), mask=mask)
    d_c = dy * o * (1.0 - c * c) + _total(carry + wide, upstream + wide, mask, HAS_D_STATES)
    f = _load(kept + wide, mask)
    tl.store(out + wide, d_c * _load(before + wide, mask) * f * (1.0 - f), mask=mask)
    tl.store(carry + wide, d_c * f, mask=mask)
    i, z = _load(kept, mask), _load(kept + 2 * wide, mask)
    tl.store(out, d_c * z * i * (1.0 - i), mask=mask)
    tl.store(out + 2 * wide, d_c * i * (1.0 - z * z), mask=mask)


@triton.jit
def _gru(dy, carry, before, kept, out, wide, mask):
    g, r = _load(kept, mask), _load(kept + wide, mask)
    z, n = _load(kept + 2 * wide, mask), _load(kept + 3 * wide, mask)
    d_z = dy * (_load(before, mask) - n) * z * (1.0 - z)
    d_n = dy * (1.0 - z) * (1.0 - n * n)
    _store4(out, wide, mask, d_n * r, d_n * g * r * (1.0 - r), d_z, d_n)
    tl.store(carry, dy * z, mask=mask)


@triton.jit
def _slstm(dy, d_c, d_n, d_m, carry, before, now, kept, out, wide, mask, floor, limit):
    i, f = _load(kept, mask), _load(kept + wide, mask)
    z, o = _load(kept + 2 * wide, mask), _load(kept + 3 * wide, mask)
    c_before, n_before = _load(before + wide, mask), _load(before + 2 * wide, mask)
    y, c = _load(now, mask), _load(now + wide, mask)
    n, m = tl.load(now + 2 * wide, mask=mask, other=1.0), _load(now + 3 * wide, mask)
    s = _load(before + 3 * wide, mask) + log_sigmoid(f)
    forget, taken = tl.exp(tl.minimum(s - m, limit)), tl.exp(i - m)
    d_c += dy * o / n
    d_n = tl.where(forget * n_before + taken >= floor, d_n - dy * y / n, 0.0)
    d_taken = (d_c * z + d_n) * taken
    d_forget = tl.where(s - m <= limit, (d_c * c_before + d_n * n_before) * forget, 0.0)
    d_m -= d_taken + d_forget
    share = tl.where((n_before == 0.0) | (i > s), 1.0, tl.where(i == s, 0.5, 0.0))
    d_s = d_forget + (1.0 - share) * d_m
    _store4(
        out,
        wide,
        mask,
        d_taken + share * d_m,
        d_s * tl.sigmoid(-f),
        d_c * taken * (1.0 - z * z),
        dy * c / n * o * (1.0 - o),
    )
    _store4(carry, wide, mask, tl.zeros_like(dy), d_c * forget, d_n * forget, d_s)


@triton.jit
def _total(carry, upstream, mask, HAS_D_STATES: tl.constexpr):
    total = _load(carry, mask)
    if HAS_D_STATES:
        total += _load(upstream, mask)
    return total


@triton.jit
def _load(address, mask):
    return tl.load(address, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _store4(address, wide, mask, one, two, three, four):
    tl.store(address, one, mask=mask)
    tl.store(address + wide, two, mask=mask)
    tl.store(address + 2 * wide, three, mask=mask)
    tl.store(address + 3 * wide, four, mask=mask)
