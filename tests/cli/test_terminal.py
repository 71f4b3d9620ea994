"""Nothing that a file's name or a server's reply holds reaches the terminal as a control character."""

import http.server
import logging
import subprocess
import sys
import threading

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from visionseq.cli import main
from visionseq.errors import DataError, ZooError, printable
from visionseq.progress import progress

EVIL = "a\x1b]0;owned\x07\x1b[31m\nb\r\x9b2J\u202e"


@given(st.text())
def test_printable_text_has_no_control_characters_and_stays_as_it_is(text):
    shown = printable(text)
    assert all(character.isprintable() for character in shown.replace("\n  ", "  "))
    assert printable(shown) == shown
    if text.isprintable():
        assert shown == text


def test_errors_escape_what_they_quote_and_keep_their_own_lines():
    assert str(DataError(f"{EVIL}: damaged")) == (r"a\x1b]0;owned\x07\x1b[31m\nb\r\x9b2J\u202e: damaged")
    assert str(ZooError("cannot be fetched:\n  one\n  two")) == "cannot be fetched:\n  one\n  two"


@pytest.mark.parametrize(
    "words",
    [
        [EVIL],
        ["zoo", EVIL],
        ["zoo", "info", EVIL],
        ["zoo", "path", EVIL],
        ["zoo", "list", "--index", EVIL],
        ["zoo", "add", EVIL, "--name", "x", "--index", "index.yaml"],
        ["sample", EVIL],
        ["sample", "x", f"--{EVIL}"],
        ["sample", "x", "--steps", EVIL],
        ["score", EVIL, "--reference", "digits", "--features", "features-digits"],
        ["detect", "x", "--input", EVIL],
        ["pairs", EVIL],
        ["convert", "rectified_flow", EVIL, "out"],
        ["convert", EVIL, "x.pth", "out"],
        ["inspect", EVIL],
        ["claims", EVIL],
        ["benchmark", EVIL],
        ["fit", "--config", EVIL],
        ["fit", f"--{EVIL}"],
    ],
    ids=lambda words: " ".join(words[:2]).replace(EVIL, "EVIL"),
)
def test_every_command_escapes_what_it_was_given(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) in (1, 2)
    shown = "".join(capsys.readouterr())
    assert shown
    assert all(character.isprintable() for character in shown.replace("\n", "")), repr(shown)
    assert "\nb" not in shown


def test_names_in_results_warnings_and_progress_are_escaped(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", "digits", "--limit", "4", "--out", "x\x1b[31m.png"]) == 0
    warning = logging.makeLogRecord({"msg": "skipped: %s", "args": (EVIL,)})
    assert logging.lastResort.format(warning) == printable(f"skipped: {EVIL}")
    with progress(EVIL, 100) as meter:
        meter.show()
    out, error = capsys.readouterr()
    assert r"x\x1b[31m.png" in out
    assert r"\x1b[31m\nb" in error
    assert "\x1b" not in out + error


def test_a_servers_reply_is_escaped(tmp_path, monkeypatch, capsys):
    class Hostile(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.wfile.write(b"HTTP/1.1 404 \x1b[31mgone\x9b\r\nContent-Length: 0\r\n\r\n")

        def log_message(self, *_):
            pass

    monkeypatch.setenv("VISIONSEQ_CACHE", str(tmp_path / "cache"))
    server = http.server.HTTPServer(("127.0.0.1", 0), Hostile)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    files = {
        name: {"sha256": "a" * 64, "size": 9, "sources": [f"{address}/{name}"]}
        for name in ("model.safetensors", "config.json")
    }
    about = {"room": "x", "model": "x", "description": "x", "licence": "x", "parameters": 1, "files": files}
    (tmp_path / "index.yaml").write_text(yaml.safe_dump({"format": 1, "models": {"evil": about}}))
    assert main(["zoo", "download", "evil", "--index", str(tmp_path / "index.yaml")]) == 1
    server.shutdown()
    error = capsys.readouterr().err
    assert r"HTTP 404 \x1b[31mgone" in error
    assert "\x1b" not in error


def test_a_full_standard_output_is_an_error():
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "visionseq", "zoo", "list"]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert result.returncode == 1
    assert result.stderr == "OSError: standard output: No space left on device\n"
