"""What a meter shows: a bar where its stream is a terminal, elsewhere at most one line in ten seconds."""

import io
import subprocess
import sys
import time

import pytest
from rich.text import Text

from visionseq.progress import MEGABYTES, BarMeter, LineMeter, progress

EVIL = "a\x1b]0;owned\x07\x1b[31m\n  b\r\x9b2J\u202e[red]c"
SHOWN = r"a\x1b]0;owned\x07\x1b[31m\n  b\r\x9b2J\u202e[red]c"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture
def clock(monkeypatch):
    """The time, in a list of one number of seconds that a test sets."""
    seconds = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: seconds[0])
    return seconds


def text_on(terminal: Terminal) -> str:
    return Text.from_ansi(terminal.getvalue()).plain


@pytest.mark.parametrize(("stream", "slurm"), [(Terminal, False), (Terminal, True), (io.StringIO, False)])
def test_the_bar_is_for_terminals_outside_of_slurm(monkeypatch, stream, slurm):
    if slurm:
        monkeypatch.setenv("SLURM_JOB_ID", "1")
    with progress("sampling", 10, stream=stream()) as meter:
        assert type(meter) is (BarMeter if stream is Terminal and not slurm else LineMeter)


def test_a_line_has_count_rate_and_remaining_time(clock):
    stream = io.StringIO()
    with progress("sampling", 5000, "images", stream=stream) as meter:
        clock[0] += 20
        meter.advance(1000)
    assert stream.getvalue() == "sampling 1000/5000  50 images/s  ETA 0:01:20\n"


def test_there_is_at_most_one_line_in_ten_seconds(clock):
    stream = io.StringIO()
    with progress("sampling", 1000, "images", stream=stream) as meter:
        for _ in range(1000):
            clock[0] += 0.1
            meter.advance()
    lines = stream.getvalue().splitlines()
    assert 9 <= len(lines) <= 10
    assert all(line.endswith("images/s  ETA 0:01:" + line[-2:]) or "ETA 0:00:" in line for line in lines)


def test_short_work_writes_no_line(clock):
    stream = io.StringIO()
    with progress("sampling", 3, "images", stream=stream) as meter:
        clock[0] += 9.5
        meter.advance(3)
    assert stream.getvalue() == ""


def test_an_unknown_total_leaves_the_remaining_time_unknown(clock):
    stream = io.StringIO()
    with progress("reading", None, "frames", stream=stream) as meter:
        clock[0] += 10
        meter.advance(25)
    assert stream.getvalue() == "reading 25  2.50 frames/s  ETA unknown\n"


def test_what_an_earlier_run_did_is_counted_but_not_its_speed(clock):
    stream = io.StringIO()
    with progress("pairs", 1000, "pairs", done=900, stream=stream) as meter:
        clock[0] += 10
        meter.reach(950)
    assert stream.getvalue() == "pairs 950/1000  5.00 pairs/s  ETA 0:00:10\n"


def test_a_transfer_that_starts_again_is_measured_anew(clock):
    stream = io.StringIO()
    with progress("model", 50_000_000, MEGABYTES, done=40_000_000, stream=stream) as meter:
        clock[0] += 5
        meter.reach(0)
        clock[0] += 10
        meter.reach(20_000_000)
    assert stream.getvalue() == "model 20.0/50.0 MB  2.00 MB/s  ETA 0:00:15\n"


@pytest.mark.parametrize("total", [100, None, 0])
def test_a_bar_shows_count_facts_and_its_end(total):
    terminal = Terminal()
    with progress("sampling", total, stream=terminal, stays=True) as meter:
        meter.show("loss 0.5")
        meter.advance(7)
    last = text_on(terminal).rstrip("\n").splitlines()[-1]
    assert last.startswith("sampling 7" + ("" if total is None else f"/{total}"))
    assert "loss 0.5" in last


def test_a_bar_goes_at_the_end_also_after_an_error():
    terminal = Terminal()
    with pytest.raises(ValueError, match="broken"), progress("sampling", 100, stream=terminal):
        raise ValueError("broken")
    assert terminal.getvalue().endswith("\x1b[2K")  # the line is erased
    assert "\x1b[?25h" in terminal.getvalue()  # the cursor is back


def test_results_go_to_their_file_while_a_bar_is_shown(capsys):
    terminal = Terminal()
    with progress("detecting", 2, stream=terminal):
        print("cloud.bin: 3 boxes")
    assert capsys.readouterr().out == "cloud.bin: 3 boxes\n"
    assert "boxes" not in terminal.getvalue()


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_a_label_is_one_line_without_control_characters(stream):
    shown = stream()
    with progress(EVIL, 3, stream=shown, stays=True) as meter:
        meter.show()
    text = text_on(shown) if stream is Terminal else shown.getvalue()
    assert SHOWN in text
    assert all(character.isprintable() for character in text.replace("\n", ""))
    if stream is io.StringIO:
        assert text.count("\n") == 1


def test_the_bars_library_waits_for_the_first_bar():
    code = "import sys, visionseq.progress; sys.exit('rich' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
