"""LightningCLI with the habits of visionseq: run folders, resumes to the bit, models of the zoo as checkpoints.

A configuration names a task (`model`), its data (`data`) and the trainer's arguments. Averaged weights, checkpoints,
metrics and pictures are added here: every run has them, and no configuration needs a line for them.
"""

import os
import sys
from argparse import RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import DefaultHelpFormatter, Namespace, set_parsing_settings
from lightning import Callback, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_only

from visionseq import zoo
from visionseq.errors import CheckpointError, ConfigError, VisionseqError
from visionseq.nn.checkpointing import checkpoint_activations
from visionseq.saving.model_folder import WeightsName
from visionseq.saving.weights import load_state
from visionseq.training.check_finite import CheckFinite
from visionseq.training.checkpoint_io import find_checkpoint, last_checkpoint
from visionseq.training.ema import EMA, RAMPUP
from visionseq.training.exact_means import ExactMeans
from visionseq.training.predictions import Predictions
from visionseq.training.progress import TrainingProgress
from visionseq.training.run_folder import (
    CONFIG,
    PREDICTIONS,
    check_drift,
    check_run_folder,
    clear_predictions,
    prepare_run_folder,
)
from visionseq.training.run_lock import run_lock
from visionseq.training.runner import (
    TRAINER_DEFAULTS,
    check_data,
    folder_callbacks,
    interruptible,
    quiet,
    run_loggers,
    run_plugins,
    train,
)
from visionseq.training.seeding import StepSeed
from visionseq.training.whole_updates import WholeUpdates

EXAMPLES = """examples:
  visionseq fit --config configs/rectified_flow/digits_2rf_pp.yaml
  visionseq fit --config configs/rectified_flow/digits_2rf_pp.yaml --trainer.max_steps 500 --run_dir runs/short
  visionseq fit --config configs/rectified_flow/digits_2rf_pp.yaml --ckpt_path last
  visionseq test --config configs/rectified_flow/digits_2rf_pp.yaml --ckpt_path rf-digits-2rf-pp
  torchrun --nproc_per_node 2 tools/train.py fit --config configs/rectified_flow/digits_2rf_pp.yaml
"""


CKPT_PATH_HELP = """The training to resume, or the weights to measure: `last` of the run, a checkpoint, a run folder;
validate, test and predict take a model folder or a name of the zoo as well and begin with `last`."""


def run_cli(verb: str, argv: list[str]) -> None:
    """Run `fit`, `validate`, `test` or `predict`.

    Raises jsonargparse's ArgumentError for a wrong argument, KeyboardInterrupt after Ctrl-C, with a checkpoint written.
    """
    set_parsing_settings(config_read_mode_fsspec_enabled=False)  # a class path must never come from the network
    with quiet():
        VisionseqCLI(verb, argv)


class VisionseqCLI(LightningCLI):
    """One verb of the trainer, from its arguments to its end."""

    def __init__(self, verb: str, argv: list[str]):
        self._verb = verb
        every: dict[str, Any] = {"exit_on_error": False, "formatter_class": _Formatter}
        super().__init__(
            args=[verb, *_underscored(argv)],
            save_config_callback=None,
            seed_everything_default=0,
            trainer_defaults=TRAINER_DEFAULTS,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            parser_kwargs={**every, "prog": "visionseq", verb: {**every, "epilog": EXAMPLES}},
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # static in Lightning, called on the object
        """The verb that was asked for: a parser takes a second to build, and no call needs all four."""
        hidden = {"model", "datamodule", "ckpt_path", "weights_only", "return_predictions"}
        return {self._verb: hidden | {"train_dataloaders", "val_dataloaders", "dataloaders"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--run_dir", type=str | None, default=None, help="Folder of the run; runs/<config's name>.")
        parser.add_argument("--ckpt_path", type=str | None, default=None, help=CKPT_PATH_HELP)
        if self._verb != "fit":
            weights = "The averaged weights of the checkpoint, or those that the optimiser worked on."
            parser.add_argument("--weights", type=WeightsName, default="ema", help=weights)
        parser.add_argument("--overwrite", action="store_true", help="Replace an earlier run, or predictions.")
        parser.add_argument("--resume_changed", action="store_true", help="Resume although the configuration changed.")
        parser.add_argument("--ema", type=float | None, default=0.9999, help="Decay of the averaged weights.")
        rampup = "Longest half-life of the average as a share of the updates so far; null: the decay is constant."
        parser.add_argument("--ema_rampup", type=float | None, default=RAMPUP, help=rampup)
        finite = "Stop where the loss or the weights are not finite."
        parser.add_argument("--check_finite", type=bool, default=True, help=finite)
        parser.add_argument("--checkpoint_every", type=int, default=1000, help="Updates between checkpoints.")
        parser.add_argument("--picture_every", type=int, default=1000, help="Updates between pictures.")
        parser.add_argument("--log_every", type=int, default=50, help="Updates between rows of metrics.csv.")
        parser.add_argument("--compile", action="store_true", help="torch.compile the network.")
        parser.add_argument("--activation_checkpointing", action="store_true", help="Recompute blocks, save memory.")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Nothing: our checkpoints hold no constructor arguments, and other files are refused with a sentence later."""

    @property
    def options(self) -> Namespace:
        """The arguments of the verb."""
        return self.config[self._verb]

    @property
    def run_dir(self) -> Path:
        """`--run_dir`, or `runs/` and the name of the first configuration file."""
        if self.options.run_dir is not None:
            return Path(self.options.run_dir)
        files = self.options.get("config") or []
        return Path("runs", Path(str(files[0])).stem if files else "run")

    def before_instantiate_classes(self) -> None:
        if self._verb != "fit":
            return
        options = self.options
        resume = options.ckpt_path is not None
        if not self._is_trial:
            check_run_folder(self.run_dir, resume, options.overwrite)
        self._checkpoint = find_checkpoint(options.ckpt_path, self.run_dir) if resume else None
        if resume and self._checkpoint is None:
            _say(f"no checkpoint in {self.run_dir} yet: starting from the beginning")
        if self._checkpoint is not None and not options.resume_changed:
            earlier = self._checkpoint.parent.parent / CONFIG
            if earlier.is_file():
                check_drift(yaml.safe_load(earlier.read_text()), yaml.safe_load(self._resolved_config()), earlier)

    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except ValueError as error:  # the parser wraps whatever a constructor raises
            raise _cause(error) from error

    def fit(self, model: Any, datamodule: Any, **_: Any) -> None:
        """Train, from the beginning or from a checkpoint, and export the averaged model."""
        check_data(model, datamodule)
        if self._is_trial:
            interruptible(self.trainer.fit)(model, datamodule=datamodule)
            return
        resume = self.options.ckpt_path is not None
        if self.options.activation_checkpointing:
            checkpoint_activations(model.model)
        if self.options.compile:
            model.model.compile()
        with run_lock(self.run_dir):
            prepare_run_folder(self.run_dir, resume, self.options.overwrite, self._resolved_config())
            train(self.trainer, model, datamodule, self._checkpoint, self.run_dir)
        _say(f"run folder: {self.run_dir}")

    def validate(self, **arguments: Any) -> None:
        """Measure a checkpoint, run, model folder or zoo entry on the validation data."""
        self._load(**arguments)
        interruptible(self.trainer.validate)(**arguments)

    def test(self, **arguments: Any) -> None:
        """The same on the test data."""
        self._load(**arguments)
        interruptible(self.trainer.test)(**arguments)

    def predict(self, **arguments: Any) -> None:
        """Write the predictions to the run folder."""
        self._load(**arguments)
        clear_predictions(self.run_dir, self.options.overwrite)
        interruptible(self.trainer.predict)(return_predictions=False, **arguments)
        _say(f"predictions: {self.run_dir / PREDICTIONS}")

    def _load(self, model: Any, datamodule: Any, **_: Any) -> None:
        """Fill the model with the weights that `--ckpt_path` names, and compare it with the data."""
        if self._verb != "predict" and datamodule.eval_source() is None:
            raise ConfigError(f"{self._verb}: `data` has no evaluation data; give it an eval_dataset or eval_path")
        ckpt_path = self.options.ckpt_path
        source = last_checkpoint(self.run_dir) if ckpt_path in (None, "last") else ckpt_path
        if source is None:
            raise CheckpointError(
                f"{self.run_dir} has no checkpoint; name a run, a model folder or a zoo entry with --ckpt_path"
            )
        loaded = zoo.load(source, weights=self.options.weights)
        load_state(model.model, loaded.state_dict(), source)
        model.model.preprocessing = loaded.preprocessing
        check_data(model, datamodule)

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        is_run = self._verb == "fit" and not self._is_trial

        # What every call has, after the callbacks and plugins of the configuration.
        config["callbacks"] = [*_as_list(config.get("callbacks")), *callbacks, *self._standard_callbacks(config)]
        config["plugins"] = run_plugins(_as_list(config.get("plugins")))
        config["default_root_dir"] = str(self.run_dir)

        # Logs and checkpoints belong to a run alone.
        if config.get("logger") in (None, True):
            config["logger"] = run_loggers(self.run_dir, self._checkpoint) if is_run else False
        if not is_run:
            config["enable_checkpointing"] = False
        if config.get("log_every_n_steps") is None:
            config["log_every_n_steps"] = self.options.log_every

        # torchrun has chosen the numbers of processes and nodes.
        if config.get("devices") == "auto" and "LOCAL_WORLD_SIZE" in os.environ:
            config["devices"] = int(os.environ["LOCAL_WORLD_SIZE"])
            config["num_nodes"] = int(os.environ["WORLD_SIZE"]) // config["devices"]
        return self.trainer_class(**config)

    def _standard_callbacks(self, config: dict[str, Any]) -> list[Callback]:
        """The callbacks of this verb, in the order in which they must be called."""
        options = self.options
        callbacks: list[Callback] = [WholeUpdates(), ExactMeans(), StepSeed(int(options.seed_everything))]
        if self._verb == "fit" and options.check_finite:
            callbacks.append(CheckFinite(options.log_every))
        if self._verb == "fit" and not self._is_trial:
            callbacks += [EMA(options.ema, rampup=options.ema_rampup)] if options.ema is not None else []
            intervals = (options.log_every, options.picture_every, options.checkpoint_every)
            callbacks += folder_callbacks(*intervals, options.check_finite)
        if self._verb == "predict":
            callbacks.append(Predictions())
        if config.get("enable_progress_bar") is not False:
            callbacks.append(TrainingProgress())
        return callbacks

    @property
    def _is_trial(self) -> bool:
        """Whether the trainer only tries a few batches and leaves nothing on disk."""
        return bool(self.options.trainer.fast_dev_run)

    def _resolved_config(self) -> str:
        """The YAML text from which the run can be repeated."""
        options = self.options.clone()
        options.update(Namespace(run_dir=str(self.run_dir), ckpt_path=None, overwrite=False, resume_changed=False))
        options.pop("config", None)
        return self._parser(self._verb).dump(options, skip_unset=False)


def _underscored(argv: list[str]) -> list[str]:
    """`--run-dir x` as `--run_dir x`; values stay."""
    words = [word.partition("=") if word.startswith("--") else (word, "", "") for word in argv]
    return [
        f"--{name[2:].replace('-', '_')}{equals}{value}" if name.startswith("--") else name
        for name, equals, value in words
    ]


def _as_list(value: Any) -> list[Any]:
    """A value of the configuration that may be one thing, several or missing."""
    return value if isinstance(value, list) else [] if value is None else [value]


def _cause(error: Exception) -> VisionseqError:
    """The error of visionseq that a constructor raised; any other error becomes a `ConfigError` with its words."""
    innermost: BaseException = error
    while innermost.__cause__ is not None and not isinstance(innermost, VisionseqError):
        innermost = innermost.__cause__
    return innermost if isinstance(innermost, VisionseqError) else ConfigError(str(innermost))


class _Formatter(DefaultHelpFormatter, RawDescriptionHelpFormatter):
    """Types and defaults beside each argument; the examples keep their line breaks."""


def _say(text: str) -> None:
    if rank_zero_only.rank == 0:  # type: ignore[attr-defined]  # an attribute that Lightning sets on the function
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
