"""The first hit of every ray, in numba: shape by shape, over the columns that the circle around the shape covers.

All rays start at the origin. No column depends on another one, so threads share them out.
"""

import numpy as np

from visionseq.kernels.compiled import compiled, inlined

GROUND = -2  # owner of the ground
NOTHING = -3  # owner where a ray hits nothing


@compiled
def cast(first, last, directions, ground, reach, boxes, cylinders, reflectance, owner, depth, cosine, material, whose):
    """Columns first ... last - 1 of depth, cosine of incidence, material and owner [columns, beams].

    directions [columns, beams, 3]; boxes [P, 7] and cylinders [Q, 5] with reflectance and owner [P + Q].
    """
    # The ground, or nothing at the end of the reach.
    columns, beams = depth.shape
    for column in range(first, last):
        for beam in range(beams):
            down = -directions[column, beam, 2]
            hit = down > 0 and -ground / down <= reach
            depth[column, beam] = -ground / down if hit else reach
            cosine[column, beam] = down if hit else 0.0
            material[column, beam] = 0.2 if hit else 0.0
            whose[column, beam] = GROUND if hit else NOTHING

    # Boxes that are nearer, in their own axes.
    for p in range(len(boxes)):
        x, y, z, dx, dy, dz, heading = boxes[p]
        begin, count = _columns(x, y, 0.5 * np.hypot(dx, dy), columns)
        c, s = np.cos(heading), np.sin(heading)
        for i in range(count):
            column = (begin + i) % columns
            if first <= column < last:
                for beam in range(beams):
                    u, v, w = directions[column, beam]
                    along, across = c * u + s * v, c * v - s * u
                    t, facing = _box(c * x + s * y, c * y - s * x, z, 0.5 * dx, 0.5 * dy, 0.5 * dz, along, across, w)
                    if 0.0 < t < depth[column, beam]:
                        depth[column, beam], cosine[column, beam] = t, facing
                        material[column, beam], whose[column, beam] = reflectance[p], owner[p]

    # Upright cylinders that are nearer still.
    for q in range(len(cylinders)):
        x, y, z, radius, height = cylinders[q]
        begin, count = _columns(x, y, radius, columns)
        p = len(boxes) + q
        for i in range(count):
            column = (begin + i) % columns
            if first <= column < last:
                for beam in range(beams):
                    u, v, w = directions[column, beam]
                    t, facing = _cylinder(x, y, z, radius, 0.5 * height, u, v, w)
                    if 0.0 < t < depth[column, beam]:
                        depth[column, beam], cosine[column, beam] = t, facing
                        material[column, beam], whose[column, beam] = reflectance[p], owner[p]


@inlined
def _columns(x, y, radius, columns):
    """The first column that a circle covers, and how many."""
    distance = np.hypot(x, y)
    if distance <= radius:
        return 0, columns
    half, middle = np.arcsin(radius / distance), np.arctan2(y, x) + np.pi
    per_radian = columns / (2 * np.pi)
    low, high = int(np.floor((middle - half) * per_radian)) - 1, int(np.ceil((middle + half) * per_radian)) + 1
    return (low + columns) % columns, min(high - low, columns)


@inlined
def _box(x, y, z, a, b, c, u, v, w):
    """Distance along (u, v, w) to a box of half sizes a, b, c at (x, y, z), and the cosine there; -1 for a miss."""
    near, far, facing = -np.inf, np.inf, 0.0
    for centre, half, step in ((x, a, u), (y, b, v), (z, c, w)):
        if abs(step) < 1e-12:
            if abs(centre) > half:
                return -1.0, 0.0
        else:
            low, high = (centre - half) / step, (centre + half) / step
            if low > high:
                low, high = high, low
            if low > near:
                near, facing = low, abs(step)
            far = min(far, high)
    return (near, facing) if near <= far else (-1.0, 0.0)


@inlined
def _cylinder(x, y, z, radius, half, u, v, w):
    """Distance along (u, v, w) to the side of an upright cylinder, and the cosine there; -1 for a miss."""
    flat = u * u + v * v
    if flat < 1e-12:
        return -1.0, 0.0
    middle = (u * x + v * y) / flat
    square = middle * middle - (x * x + y * y - radius * radius) / flat
    if square < 0:
        return -1.0, 0.0
    t = middle - np.sqrt(square)
    if abs(t * w - z) > half:
        return -1.0, 0.0
    return t, abs(u * (t * u - x) + v * (t * v - y)) / radius
