"""Class-balanced grouping and sampling: frames drawn so that all classes come about as often (arXiv 1908.09492)."""

from collections.abc import Sequence

import numpy as np

from visionseq.data.lidar.frame import LidarFrame, LidarFrames


class Resampled:
    """Frames of a data set by a list of their numbers, with repetitions."""

    def __init__(self, frames: LidarFrames, numbers: np.ndarray):
        self.frames, self.numbers = frames, numbers
        self.class_names, self.features = frames.class_names, frames.features
        self.frame_ids = [frames.frame_ids[number] for number in numbers.tolist()]

    def __len__(self) -> int:
        return len(self.numbers)

    def frame(self, index: int) -> LidarFrame:
        return self.frames.frame(int(self.numbers[index]))

    def labels(self, index: int) -> LidarFrame:
        return self.frames.labels(int(self.numbers[index]))


def balanced_classes(frames: LidarFrames, class_names: Sequence[str], random: np.random.RandomState) -> Resampled:
    """The data set with its frames drawn by class."""
    present = [set([] if (names := frames.labels(i).names) is None else names.tolist()) for i in range(len(frames))]
    return Resampled(frames, balanced_numbers(present, class_names, random))


def balanced_numbers(
    present: Sequence[set[str]], class_names: Sequence[str], random: np.random.RandomState
) -> np.ndarray:
    """int64 numbers of frames: of the n_c frames of a class, n_c * (1/C) / (n_c / sum n) with replacement, by class."""
    of_class = {name: [i for i, names in enumerate(present) if name in names] for name in class_names}
    total = sum(len(numbers) for numbers in of_class.values())
    drawn = []
    for numbers in of_class.values():
        if numbers:
            ratio = (1.0 / len(class_names)) / (len(numbers) / total)
            drawn += random.choice(numbers, int(len(numbers) * ratio)).tolist()
    return np.array(drawn, np.int64)
