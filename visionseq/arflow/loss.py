"""The training of ARFlow on one batch of sequences (arXiv 2501.16085).

    x_t = alpha(t) x + sigma(t) n,    t_1 <= ... <= t_S in each sequence,    loss = mean (v - dx_t/dt)^2

All images of a sequence get a loss in one pass, each sees the noisier ones before it, and no image or time weighs more
than another.

Legend: B sequences, S images.
"""

from torch import Tensor

from visionseq.arflow.sampling import PATHS, SequenceNetwork


def sequence_losses(network: SequenceNetwork, data: Tensor, noise: Tensor, t_BS: Tensor, labels_B: Tensor) -> Tensor:
    """Squared errors of the velocities [B, S], means over the values of an image.

    Args:
        network: an `ARFlow`.
        data, noise: [B, S, C, H, W].
        t_BS: times, rising in each sequence.
        labels_B: classes int64, `null_label` where they were dropped.
    """
    prediction, _ = network(noisy(network, data, noise, t_BS), t_BS, labels_B)
    path = PATHS[network.path]()
    target = path.velocity(data.flatten(0, 1), noise.flatten(0, 1), t_BS.flatten())
    return (prediction.flatten(0, 1) - target).square().flatten(1).mean(1).unflatten(0, t_BS.shape)


def noisy(network: SequenceNetwork, data: Tensor, noise: Tensor, t_BS: Tensor) -> Tensor:
    """The sequences x_t [B, S, C, H, W] on the network's path."""
    x_t = PATHS[network.path]().at(data.flatten(0, 1), noise.flatten(0, 1), t_BS.flatten())
    return x_t.unflatten(0, t_BS.shape)


def sorted_times(uniform_BS: Tensor) -> Tensor:
    """Rising times of each sequence, from independent uniform ones: image i of S has the mean time i / (S + 1)."""
    return uniform_BS.sort(dim=1).values
