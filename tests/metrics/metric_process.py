"""One of several processes that compute metrics together: `metric_process.py rank world address`; prints JSON."""

import json
import sys

import torch
from torch import Tensor

from visionseq.metrics.extractor import precomputed
from visionseq.metrics.image_scores import FrechetDistance, KernelDistance, PrecisionRecall


def scores(real: Tensor, generated: Tensor) -> dict[str, float]:
    extractor, found = precomputed(real.shape[1], "identity"), {}
    for metric in (FrechetDistance(extractor), KernelDistance(extractor, 2, 20), PrecisionRecall(extractor)):
        metric.update(real, real=True)
        metric.update(generated, real=False)
        value = metric.compute()
        found |= {name: x.item() for name, x in value.items()} if isinstance(value, dict) else {}
        found |= {"frechet": value.item()} if isinstance(value, Tensor) else {}
        found |= {"kernel": value[0].item()} if isinstance(value, tuple) else {}
    return found


def cloud(seed: int, rows: int, shift: float = 0.0) -> Tensor:
    return torch.randn(rows, 6, generator=torch.Generator().manual_seed(seed)) + shift


def main() -> None:
    rank, world, address = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=world)
    print(json.dumps(scores(cloud(0, 31)[rank::world], cloud(1, 40, shift=0.5)[rank::world])))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
