"""Digits as sequences of 64 pixels through one block of each operator, read in three places.

    mean    the mean over the tokens: can the block learn at all
    first   an empty token in front of the image is read: information must flow backwards, over up to 64 tokens
    far     the same with 64 more empty tokens between: information must flow backwards over 64 to 128 tokens

It does not rank the operators: it shows which of them carry information from later to earlier tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from visionseq.data.digits import Digits
from visionseq.data.images import to_float
from visionseq.data.seeding import generator_for
from visionseq.lion.operators import MambaBlock, RetNetBlock, RWKV6Block, TTTBlock, XLSTMBlock

READ_OUTS = {"mean": 0, "first": 1, "far": 65}  # empty tokens in front of the image
WIDTH, PIXELS, CLASSES = 32, 64, 10
TRAINING_IMAGES = 1400

BLOCKS: dict[str, Callable[[], nn.Module]] = {
    "xLSTM": lambda: XLSTMBlock(WIDTH),
    "RWKV6": lambda: RWKV6Block(WIDTH, n_head=2, layer_id=0, n_layer=1, init_values=1.0),
    "Mamba": lambda: MambaBlock(WIDTH, d_state=8),
    "RetNet": lambda: RetNetBlock(WIDTH, n_head=2),
    "TTT": lambda: TTTBlock(WIDTH, n_head=4),
}


@dataclass(frozen=True)
class Recipe:
    """The settings that are equal for all operators and read-outs."""

    seeds: tuple[int, ...] = (0, 1, 2)
    epochs: int = 15
    batch_size: int = 64
    peak_lr: float = 3e-3
    gradient_clip: float = 1.0


class Classifier(nn.Module):
    """Pixels -> tokens with learned positions -> one block -> class; tokens beyond the pixels are empty."""

    def __init__(self, block: nn.Module, empty: int):
        super().__init__()
        self.embed = nn.Linear(1, WIDTH)
        self.positions = nn.Parameter(torch.randn(empty + PIXELS, WIDTH) * 0.3)
        self.block = block
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)
        self.empty = empty

    def forward(self, pixels_BT: Tensor) -> Tensor:
        """Pixels [B, 64] -> logits [B, 10]."""
        tokens = self.embed(pixels_BT.unsqueeze(-1))
        tokens = nn.functional.pad(tokens, (0, 0, self.empty, 0)) + self.positions
        mixed = self.block(tokens)
        return self.head(self.norm(mixed[:, 0] if self.empty else mixed.mean(1)))


def run_seed(recipe: Recipe, seed: int, progress: Callable[[str], None]) -> dict[str, dict[str, float]]:
    """Test accuracy of every operator with every read-out."""
    train, test = _digits(seed)
    accuracies: dict[str, dict[str, float]] = {}
    for name, make in BLOCKS.items():
        for read_out, empty in READ_OUTS.items():
            torch.manual_seed(seed)
            model = Classifier(make(), empty)
            _train(model, train, recipe, seed)
            accuracies.setdefault(name, {})[read_out] = _accuracy(model, test)
            progress(f"seed {seed}, {name}, {read_out}: {accuracies[name][read_out]:.3f}")
    return accuracies


def _digits(seed: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Images in [-1, 1] as [N, 64] and their classes, split by a permutation of the seed."""
    data = Digits()
    pixels, labels = to_float(data.images).flatten(1), data.labels
    assert labels is not None  # every digit has a class
    order = torch.randperm(len(pixels), generator=generator_for(seed, 0))
    parts = order[:TRAINING_IMAGES], order[TRAINING_IMAGES:]
    train, test = ((pixels[part], labels[part]) for part in parts)
    return train, test


def _train(model: Classifier, data: tuple[Tensor, Tensor], recipe: Recipe, seed: int) -> None:
    pixels, classes = data
    per_epoch = len(pixels) // recipe.batch_size
    optimizer = torch.optim.AdamW(model.parameters(), recipe.peak_lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.peak_lr, per_epoch * recipe.epochs)
    for epoch in range(recipe.epochs):
        order = torch.randperm(len(pixels), generator=generator_for(seed, 1, epoch))
        for rows in order[: per_epoch * recipe.batch_size].split(recipe.batch_size):
            loss = nn.functional.cross_entropy(model(pixels[rows]), classes[rows])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_clip)
            optimizer.step()
            schedule.step()


@torch.no_grad()
def _accuracy(model: Classifier, data: tuple[Tensor, Tensor]) -> float:
    model.eval()
    pixels, classes = data
    return (model(pixels).argmax(-1) == classes).double().mean().item()


def time_per_token(lengths: tuple[int, ...] = (256, 512, 1024, 2048, 4096)) -> dict[str, dict[int, float]]:
    """Seconds per token of forward + backward: the scan, the naive recurrence, and mLSTM's quadratic parallel form."""
    from visionseq.benchmarks.harness import compare
    from visionseq.benchmarks.kernels.rows import growing

    operators = ("selective_scan", "gated_linear_attention, scalar", "mlstm", "ttt_linear")
    seconds: dict[str, dict[int, float]] = {}
    for length in lengths:
        for name, row in ((name, row) for name, row in growing(length).items() if name in operators):
            inputs = row.draw("cpu")
            passes = {
                f"{name}: scan": partial(row.ours, inputs),
                f"{name}: naive loop": partial(row.ours, inputs, "reference"),
            }
            passes |= {
                f"{name}: {peer}": partial(call, **inputs) for peer, call in row.peers.items() if "parallel" in peer
            }
            calls = {method: partial(_forward_and_backward, forward) for method, forward in passes.items()}
            for method, values in compare(calls, rounds=3, warmup=1).seconds.items():
                seconds.setdefault(method, {})[length] = min(values) / length
    return seconds


def _forward_and_backward(forward: Callable[[], Tensor]) -> None:
    forward().sum().backward()
