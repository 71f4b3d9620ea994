"""Headings are radians; labels of other tools often have degrees."""

import math

from visionseq.errors import DataError


def check_radians(heading: float, where: str, way_out: str = "") -> None:
    """`DataError` beginning with `where` for a heading beyond +-2 pi; `way_out` says what to do about degrees."""
    if abs(heading) > 2 * math.pi:
        hint = f"; {way_out}" if way_out else ""
        raise DataError(f"{where}: heading {heading:g}, expected radians within +-2 pi; is it in degrees?{hint}")
