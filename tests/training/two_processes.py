"""One process of a two-process training; torchrun starts it: `two_processes.py RUN_DIR STRATEGY [key=value ...]`."""

import sys

import torch
from lightning.pytorch.strategies import FSDPStrategy
from tiny_task import TinyTask, tiny_fit
from torch.distributed.fsdp import FullyShardedDataParallel

from visionseq.optim.factory import OptimizerConfig
from visionseq.training import LossScale


class FSDPOnCPU(FSDPStrategy):
    """Lightning offers FSDP for GPUs alone; torch's gloo backend carries it on a CPU, which is enough to test it."""

    def _setup_model(self, model: torch.nn.Module) -> FullyShardedDataParallel:
        return FullyShardedDataParallel(model, device_id=torch.device("cpu"), **self.kwargs)


def main(run_dir: str, strategy: str, optimizer: str = "adam", loss_scale: str = "", **options: str) -> None:
    torch.set_num_threads(1)
    sharded = FSDPOnCPU(auto_wrap_policy={torch.nn.Linear}, process_group_backend="gloo")
    sgd = OptimizerConfig(lr=1e-2, name="sgd", betas=(0.9, 0.0))
    tiny_fit(
        run_dir,
        TinyTask(sgd if optimizer == "sgd" else None, dropout=0.0),
        devices=2,
        strategy=sharded if strategy == "fsdp" else strategy,
        plugins=[LossScale(float(loss_scale))] if loss_scale else [],
        **{name: int(value) if value.isdigit() else value for name, value in options.items()},
    )


if __name__ == "__main__":
    main(*sys.argv[1:3], **dict(word.split("=") for word in sys.argv[3:]))
