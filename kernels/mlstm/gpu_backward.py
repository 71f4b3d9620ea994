"""The backward of the mLSTM in Triton: from the last token to the first, as `cpu_backward.py` explains it.

A program has a block of value channels. All gradients are linear in what comes from the values, so that the blocks'
results add up; what comes from the normaliser and from m is in the first block's alone. The states inside a chunk are
run once more from the one before it, into memory that this program alone reads.
"""

import triton
import triton.language as tl


@triton.jit
def gates(i, f, at, m):
    """F, I and the new m of one token, from the m before it."""
    log_f = log_sigmoid(tl.load(f + at).to(tl.float32))
    i_t = tl.load(i + at).to(tl.float32)
    new = tl.maximum(log_f + m, i_t)
    shift = tl.where(new == -float("inf"), 0.0, new)
    return tl.exp(log_f + (m - shift)), tl.exp(i_t - shift), new


@triton.jit
def log_sigmoid(x):
    return tl.minimum(x, 0.0) - tl.log(1.0 + tl.exp(-tl.abs(x)))


@triton.jit
def _backward(
    q,
    k,
    v,
    i,
    f,
    m_rows,
    kept_c,
    kept_n,
    kept_m,
    chunk_c,
    chunk_n,
    offsets,
    d_o,
    do_o,
    d_final_c,
    d_final_n,
    d_final_m,
    d_q,
    d_k,
    d_v,
    d_i,
    d_f,
    d_c,
    d_n,
    d_m,
    rows,
    segments,
    heads,
    keys,
    values,
    scaling,
    eps,
    REVERSE: tl.constexpr,
    MAX_FLOOR: tl.constexpr,
    CHUNK: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
):
    # a head of a segment, the program's block of the memory, and its scratch memory
    item, block = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    n, h = item // heads, item % heads
    key, lane = tl.arange(0, BK), tl.arange(0, BV)
    value = block * BV + lane
    key_mask, value_mask = key < keys, value < values
    square = (key * values)[:, None] + value[None, :]
    square_mask = key_mask[:, None] & value_mask[None, :]
    part, scratch = block * rows * heads, (item * tl.num_programs(1) + block) * CHUNK
    scratch_square = (key * BV)[:, None] + lane[None, :]
    first = tl.where(block == 0, 1.0, 0.0)

    # the adjoints of the state after the segment; those of m and of the normaliser are in the first block's alone
    adjoint_KV = tl.load(d_final_c + item * keys * values + square, mask=square_mask, other=0.0)
    adjoint_K = tl.load(d_final_n + item * keys + key, mask=key_mask, other=0.0) * first
    incoming = tl.load(d_final_m + item) * first

    # chunks from the last to the first
    start = tl.load(offsets + n)
    length = tl.load(offsets + n + 1) - start
    chunks = tl.cdiv(length, CHUNK)
    for chunk in range(chunks):
        base = (chunks - 1 - chunk) * CHUNK
        place = (start // CHUNK + n + chunks - 1 - chunk) * heads + h

        # the states of the chunk once more, from the one that was kept
        memory_KV = tl.load(kept_c + place * keys * values + square, mask=square_mask, other=0.0)
        normaliser_K = tl.load(kept_n + place * keys + key, mask=key_mask, other=0.0)
        m = tl.load(kept_m + place)
        count = tl.minimum(CHUNK, length - base)
        for r in range(count):
            tl.store(chunk_c + (scratch + r) * BK * BV + scratch_square, memory_KV)
            tl.store(chunk_n + (scratch + r) * BK + key, normaliser_K)
            at = (start + (length - 1 - base - r if REVERSE else base + r)) * heads + h
            forget, write, m = gates(i, f, at, m)
            k_K = tl.load(k + at * keys + key, mask=key_mask, other=0.0).to(tl.float32) * (write * scaling)
            v_V = tl.load(v + at * values + value, mask=value_mask, other=0.0).to(tl.float32)
            memory_KV = forget * memory_KV + k_K[:, None] * v_V[None, :]
            normaliser_K = forget * normaliser_K + k_K
        tl.debug_barrier()

        # back over the tokens of the chunk: the vectors, m and the gates
        for back in range(count):
            r = count - 1 - back
            at = (start + (length - 1 - base - r if REVERSE else base + r)) * heads + h
            q_K = tl.load(q + at * keys + key, mask=key_mask, other=0.0).to(tl.float32)
            k_K = tl.load(k + at * keys + key, mask=key_mask, other=0.0).to(tl.float32) * scaling
            v_V = tl.load(v + at * values + value, mask=value_mask, other=0.0).to(tl.float32)
            do_V = tl.load(d_o + at * values + value, mask=value_mask, other=0.0).to(tl.float32)
            m = tl.load(m_rows + at)
            m_before = tl.load(kept_m + place)
            if r > 0:
                m_before = tl.load(m_rows + at + (heads if REVERSE else -heads))
            forget, write, _ = gates(i, f, at, m_before)

            # eq. (4): the size of q . n or of e^-m, and q
            qn, floor = tl.sum(q_K * normaliser_K, 0), tl.exp(tl.minimum(-m, MAX_FLOOR))
            inverse = 1.0 / (tl.maximum(tl.abs(qn), floor) + eps)
            share = tl.where(tl.abs(qn) > floor, 1.0, tl.where(tl.abs(qn) == floor, 0.5, 0.0))
            d_size = -first * inverse * tl.load(do_o + at)
            d_qn = d_size * share * tl.where(qn > 0, 1.0, tl.where(qn < 0, -1.0, 0.0))
            incoming += tl.where(-m < MAX_FLOOR, (share - 1.0) * d_size * floor, 0.0)
            do_V = do_V * inverse
            d_q_K = tl.sum(memory_KV * do_V[None, :], 1) + d_qn * normaliser_K
            tl.store(d_q + (part + at) * keys + key, d_q_K, mask=key_mask)

            # eq. (2) and (3): the adjoints of C and n, then k and v
            adjoint_KV += q_K[:, None] * do_V[None, :]
            adjoint_K += d_qn * q_K
            d_k_K = write * (tl.sum(adjoint_KV * v_V[None, :], 1) + adjoint_K)
            tl.store(d_k + (part + at) * keys + key, d_k_K * scaling, mask=key_mask)
            d_v_V = write * tl.sum(adjoint_KV * k_K[:, None], 0)
            tl.store(d_v + at * values + value, d_v_V, mask=value_mask)

            # eq. (1): the gates, by the states before the token
            memory_KV = tl.load(chunk_c + (scratch + r) * BK * BV + scratch_square)
            normaliser_K = tl.load(chunk_n + (scratch + r) * BK + key)
            adjoint_KV, adjoint_K = forget * adjoint_KV, forget * adjoint_K
            a = tl.sum(tl.sum(adjoint_KV * memory_KV, 1), 0) + tl.sum(adjoint_K * normaliser_K, 0)
            b = tl.sum(k_K * d_k_K, 0)
            i_t, f_t = tl.load(i + at).to(tl.float32), tl.load(f + at).to(tl.float32)
            decayed = log_sigmoid(f_t) + m_before
            share = tl.where(decayed > i_t, 1.0, tl.where(decayed == i_t, 0.5, 0.0))
            tl.store(d_i + part + at, share * b + (1.0 - share) * (incoming - a))
            incoming = (1.0 - share) * a + share * (incoming - b)
            tl.store(d_f + part + at, incoming / (1.0 + tl.exp(f_t)))
        tl.debug_barrier()
    tl.store(d_c + item * keys * values + square, adjoint_KV, mask=square_mask)
    part = block * segments * heads + item
    tl.store(d_n + part * keys + key, adjoint_K, mask=key_mask)
    tl.store(d_m + part, incoming)
