"""The sweep that all of gated linear attention consists of, in Triton: a block of state columns goes through time.

    S = decay * S + x y^T,  out = z^T S

With x, y, z = k, v, q this gives o; on the transposed state, with the roles exchanged, dq, and from the last token to
the first dk and dv. A program has all rows of the state and some of its columns, in registers.
"""

import triton
import triton.language as tl


@triton.jit
def sweep(
    x,
    y,
    z,
    decay,
    offsets,
    scale,
    initial,
    final,
    out,
    marks,
    v,
    k,
    meeting,
    heads,
    rows,
    columns,
    row_stride,
    column_stride,
    decay_token_stride,
    decay_head_stride,
    decay_key_stride,
    REVERSE: tl.constexpr,
    BACKWARD: tl.constexpr,
    BEFORE: tl.constexpr,
    BY_ROW: tl.constexpr,
    HAS_INITIAL: tl.constexpr,
    HAS_FINAL: tl.constexpr,
    ACCUMULATE: tl.constexpr,
    MARK: tl.constexpr,
    MEET: tl.constexpr,
    MARK_EVERY: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """One segment and head, and one block of columns.

    x, z [M, H, rows]; y, out [M, H, columns]; decay by its strides, along the rows if BY_ROW; the states of a segment
    and head by the strides of their rows and columns. `scale` [H] multiplies out, or BACKWARD, where S is the gradient
    of a state, what is added to S; that one decays by the gate of the token that came before in this order.
    MARK: keep S before every MARK_EVERY-th token. MEET: on the way back, `meeting` [M, H, columns] = the decay of token
    t times the sum over rows of S and of the state before t, recomputed from its mark, v and k.
    """
    # the place of the program's columns of the state
    item = tl.program_id(0).to(tl.int64)
    n, h = item // heads, item % heads
    row, column = tl.arange(0, ROWS), tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    in_rows, in_columns = row < rows, column < columns
    inside = in_rows[:, None] & in_columns[None, :]
    place = item * rows * columns + row[:, None] * row_stride + column[None, :] * column_stride
    key = (row if BY_ROW else column) * decay_key_stride + h * decay_head_stride
    in_keys = in_rows if BY_ROW else in_columns

    # the segment, its marks and the state before it
    start = tl.load(offsets + n)
    length = tl.load(offsets + n + 1) - start
    factor = tl.load(scale + h)
    mark_stride = heads * rows * columns
    if MARK or MEET:
        mark = marks + ((start // MARK_EVERY + n) * heads + h) * rows * columns + row[:, None] * columns + column[None]
    S = tl.zeros([ROWS, COLUMNS], tl.float32)
    if HAS_INITIAL:
        S = tl.load(initial + place, mask=inside, other=0.0)
    a = tl.full([ROWS if BY_ROW else COLUMNS], 1.0, tl.float32)

    # a token at a time, p counts them from where the forward begins
    for i in range(length):
        p = length - 1 - i if BACKWARD else i
        t = start + (length - 1 - p if REVERSE else p)
        before = a
        a = tl.load(decay + t * decay_token_stride + key, mask=in_keys, other=0.0)
        now = before if BACKWARD and not BEFORE else a

        # the vectors of the token
        row_t = (t * heads + h) * rows + row
        column_t = (t * heads + h) * columns + column
        x_t = tl.load(x + row_t, mask=in_rows, other=0.0).to(tl.float32)
        z_t = tl.load(z + row_t, mask=in_rows, other=0.0).to(tl.float32)
        y_t = tl.load(y + column_t, mask=in_columns, other=0.0).to(tl.float32)
        if BACKWARD:
            y_t *= factor
        else:
            z_t *= factor

        # the state before the token, where it is kept
        if MARK:
            due = p % MARK_EVERY == 0
            if due:
                tl.store(mark + p // MARK_EVERY * mark_stride, S, mask=inside)

        # S = decay * S + x y^T,  out = z^T S
        updated = (now[:, None] if BY_ROW else now[None, :]) * S + x_t[:, None] * y_t[None, :]
        read = S if BEFORE else updated
        S = updated
        result = tl.sum(z_t[:, None] * read, 0)
        if ACCUMULATE:
            result += tl.load(out + column_t, mask=in_columns, other=0.0)
        tl.store(out + column_t, result, mask=in_columns)

        # the other state, from its mark on; their product gives the gradient of the gate
        if MEET:
            first = p // MARK_EVERY * MARK_EVERY
            other = tl.load(mark + p // MARK_EVERY * mark_stride, mask=inside, other=0.0)
            for j in range(first, p):
                s = start + (length - 1 - j if REVERSE else j)
                v_s = tl.load(v + (s * heads + h) * rows + row, mask=in_rows, other=0.0).to(tl.float32)
                k_s = tl.load(k + (s * heads + h) * columns + column, mask=in_columns, other=0.0).to(tl.float32)
                a_s = tl.load(decay + s * decay_token_stride + key, mask=in_keys, other=0.0)
                other = a_s[None, :] * other + v_s[:, None] * k_s[None, :]
            result = a * tl.sum(read * other, 0)
            if ACCUMULATE:
                result += tl.load(meeting + column_t, mask=in_columns, other=0.0)
            tl.store(meeting + column_t, result, mask=in_columns)

    # the state after the last token
    if HAS_FINAL:
        if BACKWARD and not BEFORE:
            S *= a[:, None] if BY_ROW else a[None, :]
        tl.store(final + place, S, mask=inside)
