"""The area that two rotated rectangles share, by convex clipping (Sutherland and Hodgman 1974) in float64.

One rectangle is moved into the frame of the other and cut at x = -dx/2, x = dx/2, y = -dy/2, y = dy/2; a cut vertex
gets the coordinate of the line itself, not an interpolated one. Quarter turns of one against the other are exact. So
identical rectangles share their whole area, also with the heading turned by pi, and rectangles that touch share 0.

numba compiles this without fast-math, because these promises rest on IEEE arithmetic. All kernels stand in this file,
because numba's cache does not notice a change in another file.

Legend: a rectangle is a row of `rectangles`, with the columns X, Y, DX, DY, COS, SIN, RADIUS.
"""

import math

import numpy as np

from visionseq.kernels.compiled import exact

X, Y, DX, DY, COS, SIN, RADIUS = range(7)
SNAP = 1e-12  # counts as rounding: radians from a quarter turn between two boxes, share of the smaller one's area
MAX_VERTICES = 20  # a cut of n vertices leaves at most 1.5 n, also where rounding has spoilt the polygon


def rectangles(boxes: np.ndarray) -> np.ndarray:
    """float64 rows [N, 7] of boxes [N, >= 7]; negative sizes count as 0; the radius is NaN for values not finite."""
    finite = np.isfinite(boxes[:, [0, 1, 3, 4, 6]]).all(1)
    centre, size, heading = boxes[:, :2], boxes[:, 3:5].clip(min=0), np.where(finite, boxes[:, 6], 0)
    direction = np.stack([np.cos(heading), np.sin(heading)], 1)
    radius = np.where(finite, np.hypot(*size.T) / 2, np.nan)
    return np.concatenate([centre, size, direction, radius[:, None]], 1)


@exact
def fill_matrix(first, last, a, b, out):
    """out[i, j] = the area that a[i] and b[j] share, for the rows first <= i < last."""
    scratch = np.empty((2, MAX_VERTICES, 2))
    for i in range(first, last):
        for j in range(len(b)):
            out[i, j] = 0.0 if _apart(a, i, b, j) else _shared_area(a, i, b, j, scratch)


@exact
def fill_aligned(first, last, a, b, out):
    """out[i] = the area that a[i] and b[i] share."""
    scratch = np.empty((2, MAX_VERTICES, 2))
    for i in range(first, last):
        out[i] = 0.0 if _apart(a, i, b, i) else _shared_area(a, i, b, i, scratch)


@exact
def suppress(rows, threshold, limit, kept):
    """Greedy suppression in the order of the rows: write at most `limit` indices to `kept`, return their number."""
    scratch = np.empty((2, MAX_VERTICES, 2))
    suppressed = np.zeros(len(rows), dtype=np.bool_)
    count = 0
    for i in range(len(rows)):
        # Keep the next box that none before it suppressed ...
        if count == limit:
            break
        if suppressed[i]:
            continue
        kept[count] = i
        count += 1

        # ... and suppress those after it that overlap it too much.
        for j in range(i + 1, len(rows)):
            if not suppressed[j] and not _apart(rows, i, rows, j) and _iou_exceeds(rows, i, j, threshold, scratch):
                suppressed[j] = True
    return count


@exact
def _iou_exceeds(rows, i, j, threshold, scratch):
    area_i, area_j = rows[i, DX] * rows[i, DY], rows[j, DX] * rows[j, DY]
    if min(area_i, area_j) <= threshold * max(area_i, area_j):  # the shared area is at most the smaller one
        return False
    shared = _shared_area(rows, i, rows, j, scratch)
    return shared / (area_i + area_j - shared) > threshold


@exact
def _apart(a, i, b, j):
    """True where the circumscribed circles do not meet; False where a value is not finite."""
    dx, dy, reach = a[i, X] - b[j, X], a[i, Y] - b[j, Y], a[i, RADIUS] + b[j, RADIUS]
    return dx * dx + dy * dy >= reach * reach


@exact
def _shared_area(a, i, b, j, scratch):
    """The area that a[i] and b[j] share; NaN where a value is not finite."""
    if math.isnan(a[i, RADIUS] + b[j, RADIUS]):
        return np.nan
    smaller = min(a[i, DX] * a[i, DY], b[j, DX] * b[j, DY])
    polygon, other = scratch[0], scratch[1]
    if smaller == 0 or not _place_corners(a, i, b, j, polygon):
        return 0.0

    # Cut a at the four sides of b.
    count = _cut(polygon, 4, other, 0, -1.0, b[j, DX] / 2)
    count = _cut(other, count, polygon, 0, 1.0, b[j, DX] / 2)
    count = _cut(polygon, count, other, 1, -1.0, b[j, DY] / 2)
    count = _cut(other, count, polygon, 1, 1.0, b[j, DY] / 2)

    # An area that rounding explains counts as none.
    area = min(_area(polygon, count), smaller)
    return area if area > SNAP * smaller else 0.0


@exact
def _place_corners(a, i, b, j, polygon):
    """The corners of a, counter-clockwise, in the frame of b; False where a lies beyond one of b's sides."""
    # Centre and direction of a in the frame of b; quarter turns become exact.
    dx, dy, cos, sin = a[i, X] - b[j, X], a[i, Y] - b[j, Y], b[j, COS], b[j, SIN]
    x, y = cos * dx + sin * dy, cos * dy - sin * dx
    cos, sin = cos * a[i, COS] + sin * a[i, SIN], cos * a[i, SIN] - sin * a[i, COS]
    if abs(sin) < SNAP:
        cos, sin = math.copysign(1.0, cos), 0.0
    elif abs(cos) < SNAP:
        cos, sin = 0.0, math.copysign(1.0, sin)

    # Corners: the centre plus or minus half the length and half the width.
    length_x, length_y = cos * a[i, DX] / 2, sin * a[i, DX] / 2
    width_x, width_y = -sin * a[i, DY] / 2, cos * a[i, DY] / 2
    polygon[0, 0], polygon[0, 1] = x + length_x + width_x, y + length_y + width_y
    polygon[1, 0], polygon[1, 1] = x - length_x + width_x, y - length_y + width_y
    polygon[2, 0], polygon[2, 1] = x - length_x - width_x, y - length_y - width_y
    polygon[3, 0], polygon[3, 1] = x + length_x - width_x, y + length_y - width_y

    # Compare the box around the corners with b.
    extent_x, extent_y = abs(length_x) + abs(width_x), abs(length_y) + abs(width_y)
    return abs(x) - extent_x < b[j, DX] / 2 and abs(y) - extent_y < b[j, DY] / 2


@exact
def _cut(polygon, count, out, axis, sign, half):
    """Write the part with sign * coordinate <= half to `out`; return its number of vertices."""
    kept = 0
    for k in range(count):
        n = k + 1 if k + 1 < count else 0
        # A vertex inside stays.
        inside, next_inside = half - sign * polygon[k, axis], half - sign * polygon[n, axis]  # negative: outside
        if inside >= 0:
            out[kept, 0], out[kept, 1] = polygon[k, 0], polygon[k, 1]
            kept += 1

        # An edge that crosses the line gets a vertex on it.
        if (inside > 0 and next_inside < 0) or (inside < 0 and next_inside > 0):
            share = inside / (inside - next_inside)
            out[kept, axis] = sign * half
            out[kept, 1 - axis] = polygon[k, 1 - axis] + share * (polygon[n, 1 - axis] - polygon[k, 1 - axis])
            kept += 1
    return kept


@exact
def _area(polygon, count):
    """Shoelace formula with the first vertex as origin, so that a flat polygon has area 0."""
    twice = 0.0
    for k in range(1, count - 1):
        ax, ay = polygon[k, 0] - polygon[0, 0], polygon[k, 1] - polygon[0, 1]
        bx, by = polygon[k + 1, 0] - polygon[0, 0], polygon[k + 1, 1] - polygon[0, 1]
        twice += ax * by - ay * bx
    return twice / 2
