"""The trainer's verbs: `visionseq fit | validate | test | predict` are LightningCLI's."""

from argparse import ArgumentError

from visionseq.cli.console import COMMANDS
from visionseq.cli.terminal import say
from visionseq.cli.wrong_argument import WrongArgument
from visionseq.errors import import_extra

HELP = """usage: visionseq {verb} --config FILE [options]

{summary}.

options:
  --config FILE ...         YAML file; several merge from left to right, and options win over all of them.
  --run_dir FOLDER          Folder of the run. (default: runs/ and the name of the first file)
  --ckpt_path NAME          `last` of the run, a checkpoint, a run folder; validate, test and predict take a model
                            folder or a name of the zoo as well.
  --overwrite               Replace an earlier run in the folder.
  --trainer.NAME VALUE      Any value of the file, also of --model and --data, such as --trainer.max_steps 500.
  --print_config            Print the whole configuration instead of running.
  --help-all                Every option of the trainer; takes some seconds.

examples:
    visionseq {verb} --config configs/rectified_flow/digits_2rf_pp.yaml
    visionseq {verb} --config configs/rectified_flow/digits_2rf_pp.yaml --ckpt_path last
    visionseq {verb} --config configs/rectified_flow/digits_2rf_pp.yaml --trainer.accelerator cpu --run_dir runs/short
"""
_LONGEST = 400  # characters of the parser's complaint: it repeats the types of a whole configuration


def main(verb: str, argv: list[str]) -> None:
    """Run one verb; a wrong argument raises `WrongArgument` with one line, Ctrl-C KeyboardInterrupt.

    `--help` is a page of this file: LightningCLI's own, `--help-all`, imports torch and the trainer.
    """
    if {"-h", "--help"} & set(argv):
        summary = COMMANDS[verb]
        say(*HELP.format(verb=verb, summary=summary[0].upper() + summary[1:]).splitlines())
        return
    if "--help-all" in argv:
        argv = ["--help"]
    import_extra("lightning", "train")
    from visionseq.training.cli import run_cli

    try:
        run_cli(verb, argv)
    except ArgumentError as error:
        complaint = " ".join(str(error).split())[:_LONGEST]
        raise WrongArgument(f"visionseq {verb}: {complaint} See visionseq {verb} --help.") from error
