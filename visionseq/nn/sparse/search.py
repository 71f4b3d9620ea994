"""The neighbour search of submanifold convolutions on a CPU: a hash table of the sites, compiled.

Keys are those of `site_keys`. The table has a power of two of slots, at least three for each site; a search begins at
the slot that a key hashes to and continues from slot to slot.
"""

import numpy as np

from visionseq.kernels.compiled import exact
from visionseq.nn.sparse.tensor import occurs_twice

EMPTY = -1
GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: neighbouring keys land far apart


def neighbour_pairs(
    indices: np.ndarray, keys: np.ndarray, shape: tuple[int, ...], steps: np.ndarray, strides: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each of the steps [S, D], int64 rows of neighbours and of sites: each neighbour is one step from its site.

    `KernelError` for a site that occurs twice.
    """
    # Fill the hash table.
    bits = max(int(3 * len(keys)).bit_length(), 4)
    slots, rows = np.full(1 << bits, EMPTY, np.int64), np.empty(1 << bits, np.int64)
    twice = fill(keys, slots, rows, np.uint64(64 - bits))
    if twice >= 0:
        raise occurs_twice(indices[twice].tolist())

    # Search the neighbours of all sites.
    neighbours, sites = np.empty((2, len(steps), len(keys)), np.int64)
    counts = np.zeros(len(steps), np.int64)
    limits = np.array(shape, np.int64)
    search(indices, keys, limits, steps, steps @ strides, slots, rows, np.uint64(64 - bits), neighbours, sites, counts)
    return [(neighbours[i, :count], sites[i, :count]) for i, count in enumerate(counts.tolist())]


@exact
def fill(keys, slots, rows, shift):
    """Put every key with its row into the table; return the first row whose key is in the table already, or -1."""
    mask = len(slots) - 1
    for i in range(len(keys)):
        slot = np.int64((np.uint64(keys[i]) * GOLDEN) >> shift)
        while slots[slot] != EMPTY:
            if slots[slot] == keys[i]:
                return i
            slot = (slot + 1) & mask
        slots[slot] = keys[i]
        rows[slot] = i
    return -1


@exact
def search(indices, keys, limits, steps, jumps, slots, rows, shift, neighbours, sites, counts):
    """Write the rows of neighbours and of their sites for each step, and how many they are."""
    mask, axes = len(slots) - 1, len(limits)
    for s in range(len(steps)):
        written = 0
        for i in range(len(keys)):
            # Skip neighbours beyond the border.
            inside = True
            for axis in range(axes):
                place = indices[i, axis + 1] + steps[s, axis]
                inside &= (place >= 0) & (place < limits[axis])
            if not inside:
                continue

            # Look the neighbour's key up.
            neighbour = keys[i] + jumps[s]
            slot = np.int64((np.uint64(neighbour) * GOLDEN) >> shift)
            while slots[slot] != EMPTY and slots[slot] != neighbour:
                slot = (slot + 1) & mask
            if slots[slot] == neighbour:
                neighbours[s, written] = rows[slot]
                sites[s, written] = i
                written += 1
        counts[s] = written
