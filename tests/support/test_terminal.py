"""What reaches a terminal or a log: nothing that a terminal obeys, and a line a minute."""

import pytest

from channel_bench.errors import ChannelBenchError, StorageError, printable
from channel_bench.support import terminal

HOSTILE = "\x1b]0;title\x07\x1b[31mred\x9b2J\u202egnp\ud800\x00"


@pytest.mark.parametrize("text", ["plain", "Grüße 中文 ✓", "two\nlines\tand a tab"])
def test_honest_text_stays(text):
    assert printable(text) == text


def test_what_a_terminal_obeys_does_not_stay():
    clean = printable(HOSTILE)
    assert len(clean) == len(HOSTILE) and not set(clean) & set("\x1b\x07\x9b\u202e\ud800\x00") and "red" in clean


@pytest.mark.parametrize("kind", [ChannelBenchError, StorageError])
def test_an_error_is_one_printable_line(kind):
    assert str(kind(f"file {HOSTILE} \n is bad")).isprintable()


def test_tables_and_lines_show_no_control_characters(capsys):
    terminal.print_table([HOSTILE], [[HOSTILE]], title=HOSTILE, caption=HOSTILE)
    terminal.say(HOSTILE)
    terminal.show(HOSTILE)
    output = capsys.readouterr()
    for text in (output.out, output.err):
        assert "red" in text and all(char.isprintable() or char == "\n" for char in text)


def test_without_a_terminal_progress_is_a_line_a_minute(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    with terminal.progress("building", 100, done=10) as advance:
        advance(20, "")  # found, not done now
        for _ in range(30):
            now[0] += 5.0
            advance(1, "4344424: 93%")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "building: 42 of 100, 720 per hour, 5 min left; 4344424: 93%",
        "building: 54 of 100, 720 per hour, 4 min left; 4344424: 93%",
    ]
