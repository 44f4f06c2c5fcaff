"""How both command lines talk: one clear line for an error, tables for people, JSON for programs, progress in between.

`run_app` turns every ChannelBenchError and every wrong use of the command line into one line on standard error and exit
code 2. Rich is imported where something is drawn, never to answer a query in JSON.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Annotated, Any, NoReturn, Protocol

import typer

from channel_bench._version import __version__
from channel_bench.errors import (
    ArgumentError,
    ChannelBenchError,
    absent_module,
    missing_package,
    os_reason,
    printable,
)

# Typer carries a copy of Click since 0.26 and used the real one before; this is the base of usage errors in both.
_ClickException: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
LINE_EVERY_S = 60.0
"""Between two lines of progress in a log."""

_SUFFIXES = {"k": 1e3, "M": 1e6, "G": 1e9}


class Terminated(BaseException):
    """SIGTERM asked this process to end, and it has put its things in order."""


class Advance(Protocol):
    """Reports progress; what `progress` yields."""

    def __call__(self, steps: int, note: str, found: bool = False) -> None:
        """Add steps, and set the note.

        Args:
            steps: How many.
            note: What happened last.
            found: Whether an earlier command did them, so that they do not count for the rate.
        """
        ...


def counted(number: int, noun: str) -> str:
    """A number with its noun: "1 seed", "3 seeds", "16,384 architectures"."""
    return f"{number:,} {noun}" + "s" * (number != 1)


def make_app(name: str, help_text: str) -> typer.Typer:
    """A Typer application without tracebacks, completion installers and markup; alone it shows its help."""
    app = typer.Typer(
        name=name,
        help=help_text,
        add_completion=False,
        no_args_is_help=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback(invoke_without_command=True, help=help_text)
    def start(
        context: typer.Context,
        version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    ) -> None:
        if version:
            print(__version__)
        elif context.invoked_subcommand is None:
            print(context.get_help())

    return app


@functools.cache
def command_of(app: typer.Typer) -> Any:
    """The command line of an application; made once, however often a process runs it."""
    return typer.main.get_command(app)


def run_app(app: typer.Typer, name: str, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command line and exit: 0, 2 for bad input with one line on standard error, 130 or 143 when interrupted.

    A command that raises typer.Exit ends with its code.
    """
    try:
        program = command_of(app)
        code = program(args=None if arguments is None else list(arguments), prog_name=name, standalone_mode=False)
        sys.stdout.flush()
        if code == EXIT_INTERRUPTED:
            raise KeyboardInterrupt  # newer Typer swallows it and returns this code instead
    except ChannelBenchError as error:
        _fail(name, str(error))
    except ImportError as error:
        absent = absent_module(error)
        if absent is None:
            raise
        _fail(name, str(missing_package("this command", absent, error)))
    except OSError as error:  # a file system that refuses where nobody expected it
        at = f": {str(error.filename)[:200]!r}" if error.filename is not None else ""
        _fail(name, f"{os_reason(error)}{at}")
    except _ClickException as error:
        # Without arguments Typer raises this to show the help, which it has printed by then.
        if type(error).__name__ == "NoArgsIsHelpError":
            raise SystemExit(EXIT_BAD_INPUT) from None
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else name
        _fail(command, f"{error.format_message()} (see '{command} --help')")
    except (KeyboardInterrupt, typer.Abort):
        print(f"{name}: interrupted", file=sys.stderr)
        raise SystemExit(EXIT_INTERRUPTED) from None
    except Terminated:
        print(f"{name}: terminated", file=sys.stderr)
        raise SystemExit(EXIT_TERMINATED) from None
    raise SystemExit(code if isinstance(code, int) else 0)


def main_of(app: typer.Typer, name: str) -> NoReturn:
    """Run a command line as the program that it is: a reader that closes the pipe (head, less) ends it silently."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    run_app(app, name)


def _fail(name: str, message: str) -> NoReturn:
    say(f"{name}: {' '.join(message.split())}")
    raise SystemExit(EXIT_BAD_INPUT)


def print_json(value: Any) -> None:
    """Print a value as JSON; NaN and infinity, which JSON does not have, as null."""
    print(json.dumps(finite(value), indent=2))


def finite(value: Any) -> Any:
    """A value of dicts, lists and numbers with None for NaN and infinity, which JSON does not have."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(inner) for inner in value]
    return value


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "", caption: str = "") -> None:
    """Print a table; texts are left-aligned, everything else right-aligned.

    Columns always keep their full width: a cut architecture or accuracy would be wrong, an overlong line is only ugly.
    """
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for position, column in enumerate(columns):
        is_text = all(isinstance(row[position], str) for row in rows)
        table.add_column(printable(column), justify="left" if is_text else "right", no_wrap=True)
    for row in rows:
        table.add_row(
            *(printable(cell) if isinstance(cell, str) else "-" if cell is None else f"{cell:,}" for cell in row)
        )
    natural = console.measure(table, options=console.options.update(max_width=10_000)).maximum
    console.width = max(console.width, natural)
    if title:
        console.print(printable(title), style="bold", markup=False, soft_wrap=True)
    console.print(table)
    if caption:
        console.print(printable(caption), style="dim", markup=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """A time for people: "45 s", "12 min", "3.4 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def say(message: str) -> None:
    """Print a line for people, on standard error so that standard output stays clean."""
    print(printable(message), file=sys.stderr, flush=True)


def say_if(message: str | None) -> None:
    """As `say`, where there is something to say."""
    if message is not None:
        say(message)


def show(message: str) -> None:
    """Print a result for people on standard output."""
    print(printable(message))


@contextlib.contextmanager
def resumable(what: str) -> Iterator[None]:
    """Tell a person who interrupts the block what is kept, and that the same command goes on.

    SIGTERM, with which a scheduler or a shutdown ends a command, interrupts it just as Ctrl-C does.

    Raises:
        Terminated: SIGTERM came.
    """
    came: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        came.append(number)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not disturb the tidying up
        # No other exception: Ray's waiting calls let this one through and lose all others.
        raise KeyboardInterrupt

    with _on_sigterm(interrupt):
        try:
            yield
        except KeyboardInterrupt:
            say(f"{what} is kept; start the same command again to continue")
            if came:
                raise Terminated from None
            raise


@contextlib.contextmanager
def _on_sigterm(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle SIGTERM within the block; threads other than the main one cannot, and leave it as it is."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


@contextlib.contextmanager
def progress(description: str, total: int, done: int = 0) -> Iterator[Advance]:
    """Show a bar with time left, and a note below it, where standard error is a terminal; elsewhere a line a minute.

    Yields:
        A function that advances the bar by a number and sets the note.
    """
    if not sys.stderr.isatty():
        with _Lines(description, total, done) as lines:
            yield lines.advance
        return
    from rich.console import Console, RenderableType
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Bar(Progress):
        def get_renderables(self) -> Iterator[RenderableType]:
            yield self.make_tasks_table(self.tasks)
            for task in self.tasks:  # a line of its own: beside the bar 80 columns have no room for it
                yield Text(task.fields["note"], no_wrap=True, overflow="ellipsis")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(description, total=total, completed=done, note="")

        def advance(steps: int, note: str, found: bool = False) -> None:
            if found:  # a reset forgets the steps so far as samples of the rate
                there = bar.tasks[0].completed + steps
                bar.reset(task, completed=int(there), note=printable(note))
            else:
                bar.update(task, advance=steps, note=printable(note))

        yield advance


class _Lines:
    """Progress in a log: done, rate and time left, a line in `LINE_EVERY_S`, also while a single step takes longer."""

    def __init__(self, description: str, total: int, done: int) -> None:
        self._description, self._total, self._done = description, total, done
        self._begun = self._said = self._last = time.monotonic()
        self._num_now = self._num_last = 0
        self._note = ""
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._clock = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> _Lines:
        self._clock.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._clock.join()

    def advance(self, steps: int, note: str, found: bool = False) -> None:
        with self._lock:
            now = time.monotonic()
            self._done += steps
            self._note = note
            # What an earlier command did comes at once; counted as work it would promise too high a rate.
            if found:
                self._begun = self._begun if self._num_now else now
            elif now - self._begun > 1:
                self._num_now += steps
                self._last, self._num_last = now, steps
            if self._num_now > 0:
                self._say_when_due(now)

    def _tick(self) -> None:
        while not self._over.wait(LINE_EVERY_S):
            with self._lock:
                self._say_when_due(time.monotonic())

    def _say_when_due(self, now: float) -> None:
        if now - self._said < LINE_EVERY_S:
            return
        self._said = now
        if self._num_now > 0:
            # What is at work does not slow the rate before it is late, as if it took as long as the steps before it.
            on_time = self._num_now / (self._last - self._begun)
            rate = min(on_time, (self._num_now + self._num_last) / (now - self._begun))
            left = max((self._total - self._done) / rate - (now - self._last), 0)
            pace = f"{rate * 3600:,.0f} per hour, {duration(left)} left"
        else:
            pace = f"the first is at work since {duration(now - self._begun)}"
        behind = f"; {self._note}" if self._note else ""
        say(f"{self._description}: {self._done:,} of {self._total:,}, {pace}{behind}")


def parse_quantity(text: str | None, most: float, what: str) -> float | None:
    """Read a budget: a number, with k, M or G for thousands, millions or billions, or a share of the largest ("0.5x").

    Args:
        text: What was typed; None stays None.
        most: Value of the largest architecture, which "x" multiplies.
        what: Name of the quantity, for the message.

    Raises:
        ArgumentError: Not a positive number.
    """
    if text is None:
        return None
    scale = _SUFFIXES.get(text[-1:], most if text[-1:] == "x" else 1.0)
    digits = text[:-1] if text[-1:] in (*_SUFFIXES, "x") else text
    try:
        value = float(digits) * scale
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise ArgumentError(f"{what} {text!r} is not a budget: allowed are numbers > 0 such as 5e8, 500M, 0.5G or 0.5x")
    return value
