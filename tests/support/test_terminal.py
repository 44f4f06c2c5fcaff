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
        now[0] += 30.0  # the search takes its time, and what it finds comes late
        advance(20, "", found=True)
        for _ in range(30):
            now[0] += 5.0
            advance(1, "4344424: 93%")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "building: 36 of 100, 720 per hour, 5 min left; 4344424: 93%",
        "building: 48 of 100, 720 per hour, 4 min left; 4344424: 93%",
        "building: 60 of 100, 720 per hour, 3 min left; 4344424: 93%",
    ]


def test_the_time_left_falls_while_a_long_step_is_at_work_and_grows_once_it_is_late(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(terminal, "LINE_EVERY_S", 1e-3)  # the clock's; a line is due whenever it comes
    lines = terminal._Lines("training", 5, 0)
    now[0] = 600.0
    lines.advance(1, "")
    for now[0] in (840.0, 1200.0, 1500.0):
        lines._say_when_due(now[0])
    assert capsys.readouterr().err.splitlines() == [
        "training: 1 of 5, 6 per hour, 40 min left",
        "training: 1 of 5, 6 per hour, 36 min left",
        "training: 1 of 5, 6 per hour, 30 min left",
        "training: 1 of 5, 5 per hour, 35 min left",  # two in 25 minutes at best, and 4 to go since 15
    ]


def test_without_a_terminal_a_line_comes_also_while_the_first_step_lasts(capsys, monkeypatch):
    monkeypatch.setattr(terminal, "LINE_EVERY_S", 0.02)
    with terminal.progress("building", 3) as advance:
        advance(1, "", found=True)
        said = ""
        while said.count("\n") < 2:
            said += capsys.readouterr().err
    assert all(line.startswith("building: 1 of 3, the first is at work since ") for line in said.splitlines())


def test_on_a_terminal_what_was_found_does_not_count_for_the_rate(monkeypatch):
    import io

    from rich.progress import Progress

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    bars = []
    start = Progress.start
    monkeypatch.setattr(Progress, "start", lambda self: (bars.append(self), start(self))[1])
    monkeypatch.setattr(terminal.sys, "stderr", Terminal())
    with terminal.progress("building", 100) as advance:
        advance(50, "", found=True)
        (task,) = bars[0].tasks
        assert task.completed == 50 and task.speed is None
        advance(1, "\x1b[31m")
        assert task.completed == 51 and task.fields["note"] == "\ufffd[31m"
    assert "\n\ufffd[31m" in terminal.sys.stderr.getvalue()  # a line of its own below the bar


@pytest.mark.parametrize("in_thread", [False, True])
def test_sigterm_in_a_resumable_block_says_how_to_go_on_and_ends_with_143(capsys, in_thread):
    import os
    import signal
    import threading

    before = signal.getsignal(signal.SIGTERM)
    if in_thread:  # only the main thread may handle signals; elsewhere the block works without

        def work():
            with terminal.resumable("all"):
                pass

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    else:
        with pytest.raises(terminal.Terminated), terminal.resumable("every run"):
            os.kill(os.getpid(), signal.SIGTERM)
        assert capsys.readouterr().err == "every run is kept; start the same command again to continue\n"
    assert signal.getsignal(signal.SIGTERM) == before

    app = terminal.make_app("tool", "help")

    @app.command()
    def end() -> None:
        raise terminal.Terminated

    with pytest.raises(SystemExit) as stopped:
        terminal.run_app(app, "tool", ["end"])
    assert stopped.value.code == 143 and capsys.readouterr().err == "tool: terminated\n"
