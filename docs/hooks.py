"""What the site takes from the code when it is built, so that no page can say something else than the code.

A page asks for it by a line of its own: ``<!-- commands of channel-bench -->`` for the help of every command,
``<!-- columns of a table -->`` for the schema, ``<!-- rooms -->`` for the sub-packages in the order of their imports,
``<!-- results of the experiments -->`` for the pages of data/experiments, ``<!-- claims of the papers -->`` for what
they conclude, ``<!-- results of the optimisers -->`` for the page of data/optimisers, ``<!-- the data sheet -->`` for
data/README.md without the front matter that dataset hubs read, ``<!-- pages of the site -->`` for links to the pages
that data/scripts/site.py puts beside the documentation.
"""

from __future__ import annotations

import ast
import json
import os
import re
import textwrap
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = ROOT / "data" / "experiments"
OPTIMISERS = ROOT / "data" / "optimisers"
CONSENSUS = ROOT / "data" / "consensus"
PREREGISTERED = ROOT / "data" / "preregistered"
FOLDERS = (EXPERIMENTS, OPTIMISERS, CONSENSUS, PREREGISTERED)
"""Of results with figures."""
PAGES = "CHANNEL_BENCH_PAGES"
"""Environment variable by which data/scripts/site.py names a folder of pages; without it the site has none."""
MARKER = re.compile(r"<!-- commands of (channel-\w+) -->")


def on_files(files: Files, config: Any) -> Files:
    """Add the figures of the leaderboard and of other folders of results, and the interactive pages."""
    board = ROOT / "data" / "leaderboard" / "kendall.png"
    for figure in [board, *(path for folder in FOLDERS for path in sorted(folder.glob("*.png")))]:
        files.append(File.generated(config, f"explanation/{figure.name}", abs_src_path=str(figure)))
    for page in pages():
        files.append(File.generated(config, page.name, abs_src_path=str(page)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put what a page asks for in the place of its marker."""
    markdown = MARKER.sub(lambda found: commands(found[1]), markdown)
    for marker, content in (
        ("<!-- columns of a table -->", columns),
        ("<!-- rooms -->", rooms),
        ("<!-- results of the experiments -->", experiments),
        ("<!-- claims of the papers -->", claims),
        ("<!-- results of the optimisers -->", optimisers),
        ("<!-- the data sheet -->", data_sheet),
        ("<!-- pages of the site -->", page_links),
    ):
        if marker in markdown:
            markdown = markdown.replace(marker, content())
    return markdown


def columns() -> str:
    """The columns of a table file, as a Markdown table."""
    from channel_bench.record import SCHEMA

    lines = ["| column | type | meaning |", "|---|---|---|"]
    for field in SCHEMA:
        unit = field.metadata[b"unit"].decode()
        meaning = field.metadata[b"meaning"].decode() + (f" ({unit})" if unit else "")
        lines.append(f"| `{field.name}` | {field.type} | {meaning} |")
    return "\n".join(lines)


def experiments() -> str:
    """The pages of all experiments, their titles one level down."""
    return "\n".join(f"#{path.read_text()}" for path in sorted(EXPERIMENTS.glob("*.md")))


def claims() -> str:
    """Every claim of every experiment, a row each, with what each space says of it."""
    spaces = ("resnet-mini", "mobilenet-mini")
    found: dict[tuple[str, str], dict[str, str]] = {}
    for path in sorted(EXPERIMENTS.glob("*.json")):
        result = json.loads(path.read_text())
        for claim in result["claims"]:
            row = found.setdefault((result["experiment"], claim["statement"]), {"unit": claim["unit"]})
            interval = "" if claim["low"] is None else f" ({claim['low']:+.2f} to {claim['high']:+.2f})"
            is_open = claim["verdict"] == "cannot be told"
            row[result["space"]] = f"{claim['effect']:+.2f}{interval}" + (
                "" if is_open else f", **{claim['verdict']}**"
            )
    lines = [f"| experiment | claim | {' | '.join(spaces)} | unit |", "|---" * (3 + len(spaces)) + "|"]
    for (experiment, statement), row in found.items():
        effects = " | ".join(row.get(space, "-") for space in spaces)
        lines.append(f"| `{experiment}` | {statement} | {effects} | {row['unit']} |")
    return "\n".join(lines)


def optimisers() -> str:
    """The page of the optimisers without its title."""
    return (OPTIMISERS / "optimisers.md").read_text().partition("\n")[2]


def pages() -> list[Path]:
    """The interactive pages, where data/scripts/site.py builds the site."""
    return sorted(Path(os.environ[PAGES]).glob("*.html")) if os.environ.get(PAGES) else []


def page_links() -> str:
    """Links to the interactive pages, or how they are made."""
    kinds = {"explore": "the table of", "report": "every entry of the leaderboard, judged on"}
    lines = []
    for page in pages():
        kind, _, space = page.stem.partition("-")
        lines.append(f"- [{kinds[kind]} {space}]({page.name})" if space else f"- [the {kind}]({page.name})")
    if not lines:
        return "`python data/scripts/site.py --out site` builds this site with them."
    return "\n".join(["They work in your browser and load nothing:", "", *lines])


def data_sheet() -> str:
    """data/README.md without its front matter."""
    text = (ROOT / "data" / "README.md").read_text()
    return re.sub(r"\A---\n.*?\n---\n+", "", text, flags=re.DOTALL)


def rooms() -> str:
    """The layers of pyproject.toml from the top, each room with the first line of its docstring."""
    text = (ROOT / "pyproject.toml").read_text()
    parts = []
    for package in ("harness", "channel_bench"):
        layers = re.search(rf'containers = \["{package}"\].*?layers = \[(.*?)\n\]', text, re.DOTALL)
        assert layers is not None, f"pyproject.toml has no layers of {package}"
        lines = [f"**{package}**", "", "| layer | contract |", "|---|---|"]
        for number, layer in enumerate(re.findall(r'"([^"]+)"', layers[1]), 1):
            for room in layer.split(" | "):
                lines.append(f"| {number} | `{room}`: {_contract(ROOT / package / room)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _contract(room: Path) -> str:
    """First line of the docstring of a module or package."""
    file = room / "__init__.py" if room.is_dir() else room.with_suffix(".py")
    docstring = ast.get_docstring(ast.parse(file.read_text())) or "the version"
    return docstring.partition("\n\n")[0].replace("\n", " ").replace("|", r"\|")


def commands(program: str) -> str:
    """Every command of a program as Markdown: what it does, its usage, its arguments and options."""
    import typer

    from channel_bench.cli import app as bench
    from harness.cli import app as harness

    group: Any = typer.main.get_command({"channel-bench": bench, "channel-harness": harness}[program])
    return "\n".join(_command(program, name, command) for name, command in group.commands.items())


def _command(program: str, name: str, command: Any) -> str:
    context = command.make_context(name, [], resilient_parsing=True)
    usage = " ".join([program, name, *command.collect_usage_pieces(context)])
    lines = [f"## {name}", "", textwrap.dedent(command.help or "").strip(), "", "```text", usage, "```", ""]
    for kind, title in (("argument", "Argument"), ("option", "Option")):
        rows = [_row(parameter, context) for parameter in command.params if parameter.param_type_name == kind]
        if rows:
            lines += [f"| {title} | Meaning |", "|---|---|", *rows, ""]
    return "\n".join(lines)


def _row(parameter: Any, context: Any) -> str:
    """One argument or option: its names and its help, as `--help` prints them."""
    names, text = parameter.get_help_record(context)
    escaped = " ".join(text.split()).replace("|", r"\|").replace("<", "&lt;").replace("[", r"\[")
    return f"| `{names}` | {escaped} |".replace("N|auto", r"N\|auto")
