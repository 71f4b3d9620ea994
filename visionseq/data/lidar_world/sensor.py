"""The sensor: where its rays point, how far they reach, and how many are lost."""

from dataclasses import dataclass

import numpy as np

from visionseq.errors import ConfigError


@dataclass(frozen=True)
class LidarSensor:
    """A spinning lidar; the defaults resemble the 64 beams of KITTI at half the columns.

    Args:
        beams: rays one above the other, equally spaced in elevation.
        columns: directions of one turn.
        lowest: elevation of the lowest beam, degrees.
        highest: elevation of the highest beam, degrees.
        height: of the sensor above the ground, metres; the sensor is the origin.
        reach: greatest distance of a return, metres.
        range_noise: standard deviation of a distance, metres.
        drop_out: share of the rays that are lost whatever they hit.
    """

    beams: int = 64
    columns: int = 1024
    lowest: float = -24.8
    highest: float = 2.0
    height: float = 1.73
    reach: float = 80.0
    range_noise: float = 0.02
    drop_out: float = 0.05

    def __post_init__(self):
        if self.beams < 1 or self.columns < 1 or self.lowest > self.highest:
            raise ConfigError(f"lidar: {self}, expected beams, columns >= 1 and lowest <= highest")
        if not (self.height > 0 and self.reach > 0 and self.range_noise >= 0 and 0 <= self.drop_out < 1):
            raise ConfigError(f"lidar: {self}, expected positive height and reach, and drop_out in [0, 1)")

    @property
    def azimuths(self) -> np.ndarray:
        """Radians from -pi, counter-clockwise, float64 [columns]."""
        return (np.arange(self.columns) + 0.5) / self.columns * 2 * np.pi - np.pi

    @property
    def elevations(self) -> np.ndarray:
        """Radians from the lowest beam up, float64 [beams]."""
        return np.deg2rad(np.linspace(self.lowest, self.highest, self.beams))

    @property
    def directions(self) -> np.ndarray:
        """Unit vectors, float64 [columns, beams, 3]."""
        a, e = self.azimuths[:, None], self.elevations[None, :]
        return np.stack(np.broadcast_arrays(np.cos(a) * np.cos(e), np.sin(a) * np.cos(e), np.sin(e)), -1)
