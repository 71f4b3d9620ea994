"""One of two processes that measure detections together: `detection_process.py rank address backend frames`.

Prints JSON. With the backend `cuda:gloo` the group takes nothing from the CPU, as nccl; objects, which PyTorch moves to
the GPU by itself, then go through the store, since this must run without a GPU.
"""

import json
import pickle
import sys
from itertools import count
from typing import Any

import torch.distributed as dist
from test_detection_metrics import METRICS, NAMES, pairs_of

WORLD = 2


def measured(kind: str, rank: int, frames: int) -> dict[str, list]:
    """Figures, and how many frames the metric holds: before, while and after it is synchronised."""
    metric, found = METRICS[kind](NAMES[kind], compute_with_cache=False), {"figures": [], "frames": []}
    for _ in range(2):
        for prediction, target in pairs_of(kind, frames)[rank::WORLD]:
            metric.update([prediction], [target])
        for _ in range(2):
            found["figures"].append({name: value.item() for name, value in metric.compute().items()})
        found["frames"].append(len(metric.frames()))
        metric.sync()
        found["frames"].append(len(metric.frames()))
        metric.unsync()
        found["frames"].append(len(metric.frames()))
        metric.reset()
    return found


def send_objects_through(store: dist.Store, rank: int) -> None:
    rounds = count()

    def gather(found: list, own: Any, group: Any = None) -> None:
        number = next(rounds)
        store.set(f"objects/{number}/{rank}", pickle.dumps(own))
        found[:] = [pickle.loads(store.get(f"objects/{number}/{other}")) for other in range(WORLD)]  # noqa: S301

    dist.all_gather_object = gather


def main() -> None:
    rank, address, backend, frames = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
    store = dist.FileStore(address, WORLD)
    dist.init_process_group(backend, store=store, rank=rank, world_size=WORLD)
    if backend == "cuda:gloo":
        send_objects_through(store, rank)
    print(json.dumps({kind: measured(kind, rank, frames) for kind in METRICS}))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
