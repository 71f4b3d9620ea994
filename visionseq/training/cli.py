"""LightningCLI with the habits of visionseq: run folders, resumes to the bit, models of the zoo as checkpoints.

A configuration names a task (`model`), its data (`data`) and the trainer's arguments; what every run has - averaged
weights, checkpoints, metrics, pictures - is added here and needs no line in it.
"""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from lightning import Callback, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger

from visionseq import zoo
from visionseq.errors import CheckpointError, ConfigError
from visionseq.files import atomic_write
from visionseq.nn.weights import load_state
from visionseq.training.checkpoint import AtomicCheckpointIO, Checkpoints, last_checkpoint
from visionseq.training.ema import EMA
from visionseq.training.progress import training_progress
from visionseq.training.run_folder import CHECKPOINTS, CONFIG, claim_run_folder, record_environment
from visionseq.training.runner import TRAINER_DEFAULTS, export, remember_preprocessing, run_callbacks
from visionseq.training.seeding import StepSeed

# What may differ between a run and its resume: where and how long it runs, not what it computes.
FREE_ON_RESUME = ("ckpt_path", "config", "run_dir", "overwrite", "resume_changed", "trainer.max_steps", "weights_only")


class VisionseqCLI(LightningCLI):
    """The verbs fit, validate, test and predict."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--run_dir", type=str | None, default=None, help="Folder of the run (default: runs/CONFIG).")
        parser.add_argument("--overwrite", action="store_true", help="Move an earlier run in run_dir aside.")
        parser.add_argument("--resume_changed", action="store_true", help="Resume although the configuration changed.")
        parser.add_argument("--ema", type=float | None, default=0.9999, help="Decay of the averaged weights.")
        parser.add_argument("--checkpoint_every", type=int, default=1000, help="Updates between checkpoints.")
        parser.add_argument("--picture_every", type=int, default=1000, help="Updates between pictures.")
        parser.add_argument("--compile", action="store_true", help="torch.compile the network.")
        parser.add_argument("--activation_checkpointing", action="store_true", help="Recompute blocks, save memory.")

    @property
    def options(self) -> Any:
        """The arguments of the verb that runs."""
        return self.config[self.subcommand]

    @property
    def run_dir(self) -> Path:
        if self.options.run_dir is not None:
            return Path(self.options.run_dir)
        files = self.options.get("config") or []
        return Path("runs", Path(str(files[0])).stem if files else "run")

    def instantiate_classes(self) -> None:
        if self.subcommand == "fit":
            self._claim_run_folder()
        super().instantiate_classes()

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        options, plugins = self.options, config.get("plugins") or []
        config["plugins"] = [*(plugins if isinstance(plugins, list) else [plugins]), AtomicCheckpointIO()]
        mine: list[Callback] = [StepSeed(int(options.seed_everything or 0)), training_progress()]
        if self.subcommand == "fit":
            mine += [EMA(options.ema)] if options.ema is not None else []
            mine += run_callbacks(self.run_dir, options.checkpoint_every, options.picture_every)
            if config.get("logger") is None:
                config["logger"] = TensorBoardLogger(self.run_dir, name="", version="tensorboard")
        elif config.get("logger") is None:
            config["logger"] = False
        return super()._instantiate_trainer(config, [*callbacks, *mine])

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        kwargs["weights_only"] = True
        if subcommand == "fit":
            kwargs["ckpt_path"] = self._resume_from
        else:
            self._load_weights(kwargs.get("ckpt_path") or "last")
            kwargs["ckpt_path"] = None
        return kwargs

    def before_fit(self) -> None:
        remember_preprocessing(self.model, self.datamodule)
        network = self.model.model
        if self.options.activation_checkpointing:
            _checkpoint_activations(network)
        if self.options.compile:
            network.compile()
        self._started = time.monotonic()

    def after_fit(self) -> None:
        for callback in self.trainer.callbacks:
            if isinstance(callback, EMA):
                callback.averaged().__enter__()
        if self.trainer.is_global_zero:
            export(self.trainer, self.model, self.run_dir, time.monotonic() - self._started)
            self._say(f"run folder: {self.run_dir}")

    def predict(self, **kwargs: Any) -> None:
        """Lightning's predict; tensors are written to `predictions.npz` in the run folder."""
        outputs = self.trainer.predict(**kwargs)
        if outputs and all(isinstance(output, torch.Tensor) for output in outputs):
            path = self.run_dir / "predictions.npz"
            with atomic_write(path) as file:
                np.savez_compressed(file, predictions=torch.cat(outputs).float().numpy())
            self._say(f"predictions: {path}")

    def interrupted(self) -> bool:
        """Whether the run was asked to stop by a signal."""
        return any(isinstance(c, Checkpoints) and c.stop_signal is not None for c in self.trainer.callbacks)

    def _claim_run_folder(self) -> None:
        asked = self.options.ckpt_path
        rank = int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")))
        if rank == 0:
            claim_run_folder(self.run_dir, resume=asked is not None or bool(os.environ.get("LOCAL_RANK")), overwrite=self.options.overwrite)
        self._resume_from = self._resolve(asked)
        text = self._parser(self.subcommand).dump(self.options, skip_none=False)
        if self._resume_from is not None and not self.options.resume_changed:
            _refuse_changes(self.run_dir / CONFIG, text)
        if rank == 0:
            with atomic_write(self.run_dir / CONFIG, "w") as file:
                file.write(text)
            record_environment(self.run_dir)

    def _resolve(self, asked: str | None) -> Path | None:
        """The checkpoint to resume from; `last` begins at 0 where the run was killed before its first checkpoint."""
        if asked is None:
            return None
        if asked != "last":
            path = Path(asked)
            return last_checkpoint(path / CHECKPOINTS) or path if path.is_dir() else path
        found = last_checkpoint(self.run_dir / CHECKPOINTS)
        if found is None:
            self._say(f"no checkpoint in {self.run_dir / CHECKPOINTS} yet: starting from the beginning")
        return found

    def _load_weights(self, name: str) -> None:
        """Put the averaged weights of a checkpoint, run, model folder or zoo entry into the task's model."""
        source = last_checkpoint(self.run_dir / CHECKPOINTS) if name == "last" else name
        if source is None:
            raise CheckpointError(f"no checkpoint in {self.run_dir / CHECKPOINTS}; name one with --ckpt_path")
        load_state(self.model.model, zoo.load(source).state_dict(), source)

    def _say(self, text: str) -> None:
        if int(os.environ.get("RANK", "0")) == 0:
            os.write(1, f"{text}\n".encode())


def run_cli(verb: str, argv: list[str]) -> None:
    """Run one verb of the trainer.

    Raises `SystemExit` 2 with one line for wrong arguments, `KeyboardInterrupt` after a stop that was asked for.
    """
    cli: VisionseqCLI | None = None

    class _Run(VisionseqCLI):
        def before_instantiate_classes(self) -> None:
            nonlocal cli
            cli = self

    try:
        _Run(
            args=[verb, *argv],
            save_config_callback=None,
            seed_everything_default=0,
            trainer_defaults=TRAINER_DEFAULTS,
            parser_kwargs={name: {"epilog": EXAMPLES} for name in ("fit", "validate", "test", "predict")},
        )
    except SystemExit:
        if cli is not None and hasattr(cli, "trainer") and cli.interrupted():
            raise KeyboardInterrupt from None
        raise


EXAMPLES = """examples:
  visionseq fit --config configs/rectified_flow/digits_2rf_pp.yaml
  visionseq fit --config configs/rectified_flow/digits_2rf_pp.yaml --trainer.max_steps 500 --run_dir runs/short
  visionseq fit --config configs/rectified_flow/digits_2rf_pp.yaml --ckpt_path last
  visionseq test --config configs/rectified_flow/digits_2rf_pp.yaml --ckpt_path rf-digits-2rf-pp
"""


def _checkpoint_activations(model: torch.nn.Module) -> None:
    capable = [module for module in model.modules() if hasattr(module, "activation_checkpointing")]
    if not capable:
        raise ConfigError(f"activation_checkpointing: {type(model).__name__} has no blocks that can be recomputed")
    for module in capable:
        module.activation_checkpointing = True


def _refuse_changes(file: Path, text: str) -> None:
    """Raise `ConfigError` where the configuration differs from that of the run."""
    if not file.is_file():
        return
    before, now = _flat(yaml.safe_load(file.read_text())), _flat(yaml.safe_load(text))
    changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    changed = [key for key in changed if not key.startswith(FREE_ON_RESUME)]
    if changed:
        found = "; ".join(f"{key}: {before.get(key)!r} -> {now.get(key)!r}" for key in changed[:5])
        raise ConfigError(f"the configuration changed since {file} ({found}); --resume_changed resumes all the same")


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {key: v for name, part in value.items() for key, v in _flat(part, f"{prefix}.{name}".lstrip(".")).items()}
