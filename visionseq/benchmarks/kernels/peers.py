"""What a user would run today instead of a kernel: torch's own operators, published reference functions, packages.

Functions of published code are re-expressed from their equations where a package needs a compiler, and named so in the
report. Each takes the inputs of our operator and returns the first output.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, silu, softplus

from visionseq.errors import import_extra


def associative_scan(a: Tensor, b: Tensor) -> Tensor:
    """The generic mode of torch's higher-order operator, the only one that runs on a CPU with gradients."""
    from torch._higher_order_ops.associative_scan import associative_scan as scan

    def combine(left, right):
        return left[0] * right[0], right[0] * left[1] + right[1]

    return scan(combine, (a, b), dim=1, combine_mode="generic")[1]


def mamba_reference(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, delta_bias: Tensor
) -> Tensor:
    """Materialised exp(dt A) and dt B u, one indexed step per token (arXiv 2312.00752)."""
    dt = softplus(delta + delta_bias)
    decay = torch.exp(torch.einsum("bte,en->bten", dt, A))
    write = torch.einsum("bte,btn,bte->bten", dt, B[:, :, 0], u)
    state, outputs = decay.new_zeros(decay[:, 0].shape), []
    for t in range(u.shape[1]):
        state = decay[:, t] * state + write[:, t]
        outputs.append(torch.einsum("ben,bn->be", state, C[:, t, 0]))
    return (torch.stack(outputs, 1) + u * D) * silu(z)


def parallel_mlstm(q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor) -> Tensor:
    """The quadratic form with a row-wise stabiliser (arXiv 2405.04517, appendix)."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    cumulative = logsigmoid(f).cumsum(1).transpose(1, 2)
    log_weight = cumulative[..., :, None] - cumulative[..., None, :] + i.transpose(1, 2)[..., None, :]
    future = torch.ones(log_weight.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
    log_weight = log_weight.masked_fill(future, -math.inf)
    largest = log_weight.amax(-1, keepdim=True)
    scores = (q @ k.mT) * k.shape[-1] ** -0.5 * torch.exp(log_weight - largest)
    normaliser = torch.maximum(scores.sum(-1, keepdim=True).abs(), torch.exp(-largest)) + 1e-6
    return ((scores @ v) / normaliser).transpose(1, 2)


def fla_recurrent_simple_gla(q: Tensor, k: Tensor, v: Tensor, g: Tensor) -> Tensor:
    return import_extra("fla.ops.simple_gla.naive", "bench").naive_recurrent_simple_gla(q, k, v, g)[0]


def fla_chunk_simple_gla(q: Tensor, k: Tensor, v: Tensor, g: Tensor) -> Tensor:
    return import_extra("fla.ops.simple_gla.naive", "bench").naive_chunk_simple_gla(q, k, v, g, chunk_size=64)[0]


def fla_recurrent_rwkv6_both(q: Tensor, k: Tensor, v: Tensor, g: Tensor, bonus: Tensor) -> Tensor:
    recurrent = import_extra("fla.ops.rwkv6.recurrent_naive", "bench").naive_recurrent_rwkv6
    q, k, v, g = (x.transpose(1, 2) for x in (q, k, v, g))
    forward = recurrent(q, k, v, g, bonus, scale=1.0)[0]
    back = recurrent(*(x.flip(2) for x in (q, k, v, g)), torch.zeros_like(bonus), scale=1.0)[0]
    return (forward + back.flip(2)).transpose(1, 2)


def fla_delta_recurrence(q: Tensor, k: Tensor, v: Tensor, beta: Tensor) -> Tensor:
    recurrence = import_extra("fla.ops.delta_rule.naive", "bench").delta_rule_recurrence
    return recurrence(*(x.transpose(1, 2) for x in (q, k, v, beta)))[0].transpose(1, 2)


def spikingjelly_lif(x: Tensor, leak: Tensor, threshold: Tensor) -> Tensor:
    """A multi-step node with one leak and threshold for all channels; time comes first there."""
    neuron = import_extra("spikingjelly.activation_based.neuron", "spiking")
    surrogate = import_extra("spikingjelly.activation_based.surrogate", "spiking")
    node = neuron.LIFNode(
        tau=2.0,
        decay_input=False,
        v_threshold=0.5,
        surrogate_function=surrogate.ATan(),
        detach_reset=True,
        step_mode="m",
    )
    return node(x.transpose(0, 1))
