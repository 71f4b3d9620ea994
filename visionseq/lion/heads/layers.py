"""Branches of the dense heads: convolutions with norm and ReLU, then one to the channels of the branch."""

from torch import Tensor, nn

HEAT_BIAS = -2.19  # its sigmoid is 0.1: few cells hold an object


def branch(channels: int, outputs: int, num_conv: int, bias: bool, eps: float, momentum: float) -> nn.Sequential:
    """`num_conv` convolutions 3 x 3, the last one to `outputs` channels with bias and nothing after it."""
    layers: list[nn.Module] = [convolution(channels, channels, bias, eps, momentum) for _ in range(num_conv - 1)]
    return nn.Sequential(*layers, nn.Conv2d(channels, outputs, 3, padding=1, bias=True))


def convolution(inputs: int, outputs: int, bias: bool, eps: float, momentum: float) -> nn.Sequential:
    norm = nn.BatchNorm2d(outputs, eps=eps, momentum=momentum)
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias), norm, nn.ReLU())


def fill_bias(layer: nn.Module, value: float) -> None:
    """Fill the bias of a layer that has one."""
    bias = layer.bias
    assert isinstance(bias, Tensor)
    nn.init.constant_(bias, value)
