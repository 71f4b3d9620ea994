"""One process of a two-process training; torchrun starts it: `two_processes.py RUN_DIR STRATEGY [key=value ...]`."""

import sys

import torch
from lightning.pytorch.strategies import FSDPStrategy
from tiny_task import TinyTask, tiny_fit
from torch.distributed.fsdp import FullyShardedDataParallel


class FSDPOnCPU(FSDPStrategy):
    """Lightning offers FSDP for GPUs alone; torch's gloo backend carries it on a CPU, which is enough to test it."""

    def _setup_model(self, model: torch.nn.Module) -> FullyShardedDataParallel:
        return FullyShardedDataParallel(model, device_id=torch.device("cpu"), **self.kwargs)


def main(run_dir: str, strategy: str, **options: str) -> None:
    torch.set_num_threads(1)
    kind = (
        FSDPOnCPU(auto_wrap_policy={torch.nn.Linear}, process_group_backend="gloo") if strategy == "fsdp" else strategy
    )
    numbers = {name: int(value) if value.isdigit() else value for name, value in options.items()}
    tiny_fit(run_dir, TinyTask(dropout=0.0), devices=2, strategy=kind, **numbers)


if __name__ == "__main__":
    main(*sys.argv[1:3], **dict(word.split("=") for word in sys.argv[3:]))
