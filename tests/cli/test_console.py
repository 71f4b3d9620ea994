"""The command `visionseq`: exit codes, messages, help of every command."""

import importlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from visionseq.cli import main
from visionseq.cli.console import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
TRAINER_VERBS = ("fit", "validate", "test", "predict")


def visionseq(*arguments: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "visionseq", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def test_overview_names_every_command(capsys):
    for arguments in ([], ["--help"], ["-h"]):
        assert main(arguments) == 0
        text = capsys.readouterr().out
        assert all(f"  {command} " in text for command in COMMANDS)


def test_version(capsys):
    import visionseq as package

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"visionseq {package.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["smaple"], "unknown command 'smaple'; did you mean sample?"),
        (["zoo", "lits"], "unknown verb of zoo 'lits'; did you mean list?"),
        (["zoo", "info"], "visionseq zoo info: Parameter --name requires an argument"),
        (["zoo", "info", "x", "--nonsense", "3"], "Unknown option: --nonsense"),
        (["doctor", "--depth", "3"], "Unknown option: --depth"),
    ],
)
def test_wrong_arguments_cost_one_line_and_exit_code_2(arguments, message, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_our_errors_are_messages_and_exit_code_1(capsys):
    assert main(["zoo", "info", "no-such-model"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("ZooError: the zoo has no model 'no-such-model'")
    assert "Traceback" not in error


def test_debug_shows_the_traceback():
    result = visionseq("zoo", "info", "no-such-model", "--debug")
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "ZooError" in result.stderr


def test_missing_file_is_a_message(tmp_path, capsys):
    assert main(["zoo", "list", "--index", str(tmp_path / "none.yaml")]) == 1
    assert "none.yaml" in capsys.readouterr().err


def test_closed_pipe_is_quiet():
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        [sys.executable, "-m", "visionseq", "--help"], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60
    )
    os.close(writer)
    assert process.stderr == ""
    assert process.returncode == 141


def test_interruption_is_exit_code_130(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts and never answers
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        files = "".join(
            f"      {name}: {{sha256: {'a' * 64}, size: 9, sources: ['{address}/{name}']}}\n"
            for name in ("model.safetensors", "config.json")
        )
        (tmp_path / "index.yaml").write_text(
            "format: 1\nmodels:\n  slow:\n    {room: x, model: x, description: x, licence: x, parameters: 1, files: {\n"
            + files.replace("\n", ",\n")
            + "    }}\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "visionseq", "zoo", "download", "slow", "--index", tmp_path / "index.yaml"],
            env={**os.environ, "VISIONSEQ_CACHE": str(tmp_path / "cache")},
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job's children ignore it
        )
        connection, _ = silent.accept()
        connection.recv(1)  # the request is there: the process waits for our answer
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
        connection.close()
    assert process.returncode == 130
    assert error == "interrupted\n"
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("command", [command for command in COMMANDS if command not in TRAINER_VERBS])
def test_every_command_explains_itself_with_examples(command, capsys):
    module = importlib.import_module(f"visionseq.cli.{command}")
    verbs = [[verb] for verb in module.COMMANDS] if hasattr(module, "COMMANDS") else [[]]
    for verb in verbs:
        assert main([command, *verb, "--help"]) == 0
        text = capsys.readouterr().out
        assert text.startswith(f"usage: visionseq {' '.join([command, *verb])}")
        assert f"examples:\n    visionseq {' '.join([command, *verb])}" in text or "examples:\n    ls $(" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_script(command):
    if command in TRAINER_VERBS:
        command = {"test": "test"}.get(command, "train")
    assert (ROOT / "tools" / f"{command}.py").is_file()


def test_every_command_module_is_in_the_table():
    names = [path.stem for path in (ROOT / "visionseq" / "cli").glob("[!_]*.py")]
    modules = {name: importlib.import_module(f"visionseq.cli.{name}") for name in names}
    commands = {name for name, module in modules.items() if hasattr(module, name) or hasattr(module, "COMMANDS")}
    assert commands - {"console", "help_page", "train"} == set(COMMANDS) - set(TRAINER_VERBS)
