"""lif_scan against golden files, whose parameters are raw: leaks before the sigmoid, thresholds before the clamp.

The spikes must be equal. The gradients went through a float32 tensor of spikes, so that also in float64 they are
compared by their largest value.
"""

import torch
from golden_vector import GoldenVector
from torch import Tensor

from kernels_handlers.compare import check_operator, options_of
from visionseq.kernels.lif_scan import lif_scan

SURROGATES = {
    "arctanspike": "arctan",
    "superspike": "superspike",
    "trianglespike": "triangle",
    "mgspike": "multigauss",
}
OUTPUTS = ["z", "v", "final_state"]
LOWEST_THRESHOLD = 0.01
GRADIENT_SHARE = 1e-6


def check_lif(vector: GoldenVector) -> None:
    config = vector.config
    options = {
        "reset": "hard" if config["hard_reset"] else "soft",
        "input_scale": "one_minus_leak",
        "surrogate": SURROGATES[config.get("activation", "arctanspike")],
        "detach_reset": config.get("detach", True),
        **options_of(vector, lif_scan),
    }
    adaptive = "in/leak_t" in vector
    parameters = ("leak_v", "leak_t", "t0", "t1") if adaptive else ("leak", "thresh")
    function = _adaptive if adaptive else _fixed
    arguments = {name: name for name in ("x", *parameters, "initial_state")}
    function = _with_equal_spikes(vector, function)
    check_operator(vector, function, arguments, OUTPUTS, gradient_share=GRADIENT_SHARE, **options)


def _fixed(x: Tensor, leak: Tensor, thresh: Tensor, **options) -> tuple[Tensor, Tensor, Tensor]:
    return lif_scan(x, torch.sigmoid(leak), thresh.clamp(min=LOWEST_THRESHOLD), **options)


def _adaptive(x: Tensor, leak_v: Tensor, leak_t: Tensor, t0: Tensor, t1: Tensor, **options):
    adaptive = (torch.sigmoid(leak_t), t1.clamp(min=0))
    return lif_scan(x, torch.sigmoid(leak_v), t0.clamp(min=LOWEST_THRESHOLD), adaptive=adaptive, **options)


def _with_equal_spikes(vector: GoldenVector, function):
    def checked(**arguments):
        results = function(**arguments)
        assert results[0].double().equal(vector["out/z"].double()), f"{arguments['backend']}: spikes differ"
        return results

    return checked


HANDLERS = {"lif_": check_lif}
