"""Every page that a person reads: its commands exist, its examples give what they show, its links lead somewhere.

A comment before a block says what is to be done with it: ``<!-- tested: run -->`` runs the commands of a bash block, in
order and in one temporary folder per page; ``<!-- tested: output -->`` marks what the block before prints. Python is
always run: sessions (``>>>``) as doctests, files (``title="my_method.py"``) by writing them into that folder. Every
command of a bash block has to parse, whether it is run or not.
"""

import doctest
import glob
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import warnings
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import Isolated, skip_unless_required, start_cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "examples" / "README.md", *(ROOT / "docs").rglob("*.md")]
PROGRAMS = {"channel-bench": "channel_bench.cli", "channel-harness": "harness.cli"}
OTHERS = {
    ".",
    "apptainer",
    "docker",
    "export",
    "git",
    "mkdir",
    "mkdocs",
    "mypy",
    "lint-imports",
    "pip",
    "pre-commit",
    "printf",
    "python3",
    "ray",
    "ruff",
    "sbatch",
    "srun",
}
OTHERS |= {".venv/bin/pip", ".venv/bin/python", "."}


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    title: str
    mark: str
    """What the comment before it says: "run", "output" or nothing."""
    text: str


def blocks_of(page: Path) -> list[Block]:
    pattern = r"^(?:<!-- tested: (\w+) -->\n)?```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^```$"
    found = re.findall(pattern, page.read_text(), re.DOTALL | re.MULTILINE)
    return [Block(language, title, mark, text) for mark, language, title, text in found]


def lines_of(block: Block) -> list[str]:
    """Command lines of a block, continued ones joined."""
    return [line for line in block.text.replace("\\\n", " ").splitlines() if line.strip() and line[0] != "#"]


def commands_of(line: str) -> list[list[str]]:
    """Words of each command of a line; what follows a redirection belongs to no command."""
    words = shlex.shlex(line, posix=True, punctuation_chars="&|;<>")
    words.whitespace_split, words.commenters = True, "#"
    commands: list[list[str]] = [[]]
    redirected = False
    for word in words:
        if set(word) <= set("&|;"):
            commands.append([])
            redirected = False
        elif set(word) <= set("<>"):
            redirected = True
        elif not redirected:
            commands[-1].append(word)
    return [command for command in commands if command]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def all_commands() -> list:
    return [
        pytest.param(command, id=f"{name_of(page)}: {' '.join(command)[:60]}")
        for page in PAGES
        for block in blocks_of(page)
        if block.language in ("bash", "sh")
        for line in lines_of(block)
        for command in commands_of(line)
    ]


# -- commands -------------------------------------------------------------------------------------------------------


def check_command(command: list[str]) -> None:
    """Fail where the command, or one of its options, does not exist."""
    from channel_bench.support.terminal import command_of

    program, *arguments = command
    if program == "srun" or command[:2] in (["docker", "run"], ["apptainer", "run"]):  # what they start
        inner = next((number for number, word in enumerate(arguments) if word in {*PROGRAMS, "apptainer", "ray"}), None)
        assert inner is not None, f"{program} starts nothing that is known here"
        # "channel-bench" is also the name of the image.
        inner += arguments[inner + 1 : inner + 2] != [] and arguments[inner + 1] in PROGRAMS
        return check_command(arguments[inner:])
    if Path(program).name in PROGRAMS:
        app = importlib.import_module(PROGRAMS[Path(program).name]).app
        group = command_of(app)
        if arguments and arguments[0] not in ("--help", "--version"):
            assert arguments[0] in group.commands, f"{program} has no command {arguments[0]!r}"
            if arguments[1:2] != ["..."]:  # "channel-bench train ..." is text, not a command
                group.commands[arguments[0]].make_context(arguments[0], arguments[1:])
    elif program == "python" and arguments[:2] != ["-m", "pytest"]:
        script = ROOT / arguments[0]
        source = script.read_text()
        for word in arguments[1:]:
            if word.startswith("--"):
                assert f'"{word.partition("=")[0]}"' in source, f"{arguments[0]} has no option {word}"
    else:
        assert program in OTHERS | {"python"}, f"the page uses {program!r}, which nothing here knows"


@pytest.mark.parametrize("command", all_commands())
def test_every_command_of_every_page_exists_with_its_options(command):
    check_command(command)


@pytest.mark.parametrize(
    "line",
    [
        "channel-bench build resnet-mini --out runs --frobnicate 3",
        "channel-bench biuld resnet-mini --out runs",
        "channel-harness rank uniform",  # without its space
        "python data/scripts/ablation.py --no-such-option",
        "frobnicate --all",
    ],
)
def test_a_command_that_does_not_exist_fails_the_check(line):
    with pytest.raises(Exception):  # noqa: B017 - typer's own, or an assertion
        check_command(commands_of(line)[0])


def test_lines_are_cut_into_commands():
    line = "printf 'a;b' > f && channel-bench status runs/ | head  # comment"
    assert commands_of(line) == [["printf", "a;b"], ["channel-bench", "status", "runs/"], ["head"]]


# -- examples -------------------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A temporary folder to run a page in, where this repository's commands are there and supernets score fast."""
    from harness import method

    for name, module in PROGRAMS.items():
        script = tmp_path / "bin" / name
        script.parent.mkdir(exist_ok=True)
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -m {module} "$@"\n')
        script.chmod(0o755)
    # Few validation images, here and in the processes that a ranking of several seeds starts.
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("import harness.task\nharness.task.MAX_HOLDOUT = 30\n")
    monkeypatch.setattr("harness.task.MAX_HOLDOUT", 30)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (tmp_path / "site", ROOT))))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(method.METHODS, "_known", Isolated(method.METHODS))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    yield tmp_path / "work"
    forget_plugins()


SHORTER = {
    "build": "--workers 1",
    "latency": "--repeats 3 --networks 6",
    "leaderboard": "--replicates 20",
    "rank": "--seeds 2 --epochs 1",
    "report": "--replicates 20 --draws 4 --no-figures",
}
"""Options that make a command shorter than on its page, where the last one of a name counts."""


def forget_plugins() -> None:
    """As if the next command were a process of its own: the pages' plug-ins are unknown."""
    from channel_bench.space import own
    from harness import method

    for module in [name for name in sys.modules if name.startswith("my_")]:
        del sys.modules[module]
    for name in [name for name in method.METHODS._known if name.startswith("my-")]:
        del method.METHODS._known[name]
    own._registered.clear()


def run_line(line: str, capfd) -> str:
    """Run one command line, and return what it prints; a line without shell syntax runs in this process."""
    line = re.sub(r"\s+#.*", "", line)
    words, *others = commands_of(line)
    simple = words[0] in PROGRAMS and not others and ">" not in line
    if simple:
        line = f"{line} {SHORTER.get(words[1], '')}"
    capfd.readouterr()
    if not simple:
        finished = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
        assert finished.returncode == 0, f"{line}: {finished.stderr}"
        return finished.stdout
    forget_plugins()
    (arguments,) = commands_of(line)
    code = start_cli(words[0], *(file for word in arguments[1:] for file in (sorted(glob.glob(word)) or [word])))
    output = capfd.readouterr()
    assert code == 0, f"{line}: {output.err}"
    return output.out


def run_session(text: str, names: dict, page: Path) -> dict:
    """Run a Python session that must print what it shows; returns the names it defined."""
    session = doctest.DocTestParser().get_doctest(text, names, name_of(page), None, None)
    failures: list[str] = []
    doctest.DocTestRunner().run(session, out=failures.append, clear_globs=False)
    assert not failures, "".join(failures)
    return session.globs


def run_page(page: Path, place: Path, capfd) -> None:
    """Run a page's marked commands and its Python, in order."""
    names: dict = {}
    printed = ""
    for block in blocks_of(page):
        if block.mark == "run":
            printed = "".join(run_line(line, capfd) for line in lines_of(block))
        elif block.mark == "output":
            there = [line.split() for line in printed.splitlines()]
            assert all(line.split() in there for line in block.text.splitlines()), printed
        elif block.title:
            (place / block.title).write_text(block.text)
        elif block.language == "python":
            assert ">>>" in block.text, f"{name_of(page)} has Python that is neither a session nor a file"
            names = run_session(block.text, names, page)


RUN = [page for page in PAGES if page.is_relative_to(ROOT / "docs") and re.search("tested: run|>>>", page.read_text())]


# These start many processes. What labs do is tested in the rooms, too; what authors do, below in short.
LONG = ("authors.md", "ecosystem.md", "labs.md", "own-spaces.md")
RUN_PAGES = [pytest.param(page, marks=pytest.mark.slow if page.name in LONG else ()) for page in RUN]
OTHERS_WARN = (
    "The inplace keyword in DataFrame",
    "The 'fastparquet' engine is deprecated",
    "The 'future.infer_string' option",
    "ConjunctiveGraph is deprecated",
)
"""How warnings begin that the libraries of ecosystem.md cause in each other."""


@pytest.mark.parametrize("page", RUN_PAGES, ids=[name_of(page) for page in RUN])
def test_what_a_page_does_works_and_gives_what_it_shows(page, place, capfd, monkeypatch):
    if page.name == "ecosystem.md":
        for module in ("optuna", "syne_tune", "ConfigSpace", "datasets", "mlcroissant"):
            if importlib.util.find_spec(module) is None:
                pytest.skip(f"no {module} here: pip install 'channel-bench[adapters]'")
        for begin in OTHERS_WARN:
            warnings.filterwarnings("ignore", begin)
        monkeypatch.setenv("SYNETUNE_FOLDER", "syne-tune")  # the page sets it, this restores it
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        monkeypatch.setenv("HF_HOME", str(place / "hub"))
    run_page(page, place, capfd)
    if page.name == "authors.md":
        assert json.loads((place / "report" / "report.json").read_text())
        assert sorted(path.suffix for path in (place / "board").iterdir()) == [".json", ".parquet"]
        assert len(list((place / "scores").glob("*.parquet"))) == 2


def test_the_plug_ins_of_the_tutorial_are_checked_ranked_and_searched(place, capfd):
    for block in blocks_of(ROOT / "docs/tutorials/authors.md"):
        if block.title:
            (place / block.title).write_text(block.text)
    for line in ("check my_method.py:MyMethod", "check my_loop.py:MyLoop --option lr=0.01"):
        run_line(f"channel-harness {line} --device cpu", capfd)
    forget_plugins()
    ranked = ("my_method.py:MyMethod", "--space", "resnet-mini", "--epochs", "1", "-o", "one.parquet")
    assert start_cli("channel-harness", "rank", *ranked, "--device", "cpu") == 0
    line = "channel-harness search one.parquet --space resnet-mini --max-flops 0.5x --searcher greedy"
    assert "greedy" in run_line(line, capfd)


def test_an_example_that_prints_something_else_fails(tmp_path):
    with pytest.raises(AssertionError, match="Expected:"):
        run_session(">>> 1 + 1\n3\n", {}, ROOT / "README.md")


def test_a_training_loop_of_the_page_that_was_killed_ends_in_the_same_scores(tmp_path):
    """The page promises that for loops that draw by epoch."""
    import dataclasses

    import numpy as np

    from harness.check.checker import small_task

    block = next(block for block in blocks_of(ROOT / "docs/tutorials/authors.md") if block.title == "my_loop.py")
    names: dict = {"__name__": "my_loop"}
    exec(block.text.replace("@register", "# @register"), names)
    task = dataclasses.replace(small_task("resnet-mini"), checkpoints=tmp_path)
    archs = np.array([[1] * 7, [4] * 7, [2, 1, 3, 4, 1, 2, 3]], np.int8)
    whole = names["MyLoop"]().fit(dataclasses.replace(task, checkpoints=None)).score(archs)

    class Killed(Exception):
        pass

    def kill(epoch, num_epochs, note):
        raise Killed

    with pytest.raises(Killed):
        names["MyLoop"]().fit(dataclasses.replace(task, on_epoch=kill))
    told = []
    resumed = names["MyLoop"]().fit(dataclasses.replace(task, on_epoch=lambda *call: told.append(call)))
    assert resumed.score(archs).tolist() == whole.tolist() and [call[:2] for call in told] == [(2, 2)]


# -- links ----------------------------------------------------------------------------------------------------------


def anchors_of(page: Path) -> set[str]:
    """Anchors of a page's headings, as both GitHub and the site make them of plain words."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def figures_of_results() -> set[str]:
    """Names of the figures that the site takes from data/."""
    folders = ("leaderboard", "experiments", "optimisers", "consensus", "preregistered")
    return {path.name for folder in folders for path in (ROOT / "data" / folder).glob("*.png")}


def dead_links(page: Path, text: str) -> list[str]:
    dead = []
    for target in re.findall(r"(?<!`)\]\(([^)\s]+)\)", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)):
        file, _, anchor = target.partition("#")
        if re.match(r"https?://|mailto:", target) or anchor.startswith(("channel_bench.", "harness.")):
            continue  # the site's own build checks the second kind
        there = (page.parent / file).resolve() if file else page
        made = there.name in figures_of_results() and page.parent.name == "explanation"  # by docs/hooks.py
        if not (there.exists() or made) or (anchor and anchor not in anchors_of(there)):
            dead.append(target)
    return dead


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_somewhere(page):
    assert dead_links(page, page.read_text()) == []


def test_a_dead_link_is_found():
    page = ROOT / "README.md"
    assert dead_links(page, "[a](docs/none.md) [b](docs/index.md#no-such) [c](docs/index.md#set-up)") == [
        "docs/none.md",
        "docs/index.md#no-such",
    ]


# -- the site -------------------------------------------------------------------------------------------------------


class Requests(HTMLParser):
    """What a browser fetches for a page from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.hosts: list[str] = []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        source = values.get("src") if tag in ("script", "img", "iframe") else None
        if tag == "link" and values.get("rel") not in ("canonical", "next", "prev"):
            source = values.get("href")
        if source and re.match(r"(https?:)?//", source):
            self.hosts.append(source)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built strictly: a broken link or reference fails."""
    if importlib.util.find_spec("mkdocs") is None or importlib.util.find_spec("mkdocstrings") is None:
        skip_unless_required("site", "the site needs pip install 'channel-bench[docs]'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    finished = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return folder


@pytest.mark.slow  # 15 s, and what CI builds once, at its end
@pytest.mark.xdist_group("site")
def test_the_site_builds_strictly_and_asks_no_other_host(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        requests = Requests()
        requests.feed(page.read_text())
        assert requests.hosts == [], page
    for style in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(https?:)?//", style.read_text()), style
    assert (site / "explanation" / "kendall.png").exists()


@pytest.mark.slow  # 15 s, and what CI builds once, at its end
@pytest.mark.xdist_group("site")
@pytest.mark.parametrize("program", PROGRAMS)
def test_the_reference_has_every_command_and_option(site, program):
    from channel_bench.support.terminal import command_of

    text = (site / "reference" / program / "index.html").read_text()
    group = command_of(importlib.import_module(PROGRAMS[program]).app)
    for name, command in group.commands.items():
        assert f'id="{name}"' in text
        for parameter in command.params:
            assert all(option in text for option in parameter.opts if option.startswith("--"))


@pytest.mark.slow  # 15 s, and what CI builds once, at its end
@pytest.mark.xdist_group("site")
def test_the_reference_has_the_schema_and_the_rooms(site):
    from channel_bench.record import SCHEMA

    files = (site / "reference" / "files" / "index.html").read_text()
    assert all(f"<code>{name}</code>" in files for name in SCHEMA.names)
    design = (site / "reference" / "design" / "index.html").read_text()
    assert "<!-- rooms" not in design
    for package in ("channel_bench", "harness"):
        for room in (ROOT / package).glob("*/__init__.py"):
            assert f"<code>{room.parent.name}</code>" in design


# -- numbers --------------------------------------------------------------------------------------------------------


PROXY_PAGE = "explanation/proxies.md"


def page_text(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def test_the_baselines_are_those_of_the_published_tables(published):
    import channel_bench as cb
    from harness.judge.comparison import compare

    names = {
        "flops": "FLOPs",
        "params": "parameters",
        "sum-log-width": "sum of log widths",
        "log-paths": "log number of paths",
        "expected-synflow": "expected SynFlow",
        "expected-l2-norm": "expected L2 norm",
        "relu-count": "number of ReLU units",
        "mean-of-theories": "mean of theories",
    }
    taus = {
        space: {row.name: row.kendall for row in compare(None, cb.load(space, data_dir=published)).rows}
        for space in ("mobilenet", "resnet")
    }
    for key, name in names.items():
        values = " | ".join(f"{taus[space][key]:.4f}".lstrip("0") for space in ("mobilenet", "resnet"))
        assert f"| {name} | {values} |" in page_text("explanation/numbers.md")


def test_the_mean_of_theories_is_the_best_free_score_on_average_and_by_how_much(published):
    """Over the four tables, and over the five spaces of the preregistered test."""
    import numpy as np

    import channel_bench as cb
    from harness.judge.comparison import compare

    folder = ROOT / "data" / "preregistered"
    own = [cb.load_space(path) for path in sorted((folder / "spaces").glob("*.toml"))]
    tables = [cb.load(name) for name in ("resnet", "mobilenet", "resnet-mini", "mobilenet-mini")]
    files = [(space, folder / "tables" / f"{space.name}.parquet") for space in own]
    later = [cb.load(space, path) for space, path in files if path.exists()]
    assert len(later) == 5
    text = " ".join(page_text("explanation/numbers.md").split())
    for chosen in (tables, later):
        rows = [{row.name: row.kendall for row in compare(None, table).rows} for table in chosen]
        means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        best, second, third = sorted(means, key=means.__getitem__, reverse=True)[:3]
        assert (best, second, third) == ("mean-of-theories", "expected-synflow", "log-paths")
        shown = [f"{means[name]:.3f}".removeprefix("0") for name in (best, second, third)]
        assert f"it has {shown[0]}, expected SynFlow {shown[1]}, log-paths {shown[2]}" in text
    for other in ("expected-synflow", "log-paths"):
        assert sum(row["mean-of-theories"] > row[other] for row in rows) == 3


def test_the_ceilings_are_those_of_the_tables(published):
    import channel_bench as cb
    from harness.stats.noise import ceilings, reliability

    row = re.search(r"^\| ceiling of Kendall \| (.*) \|$", page_text("explanation/numbers.md"), re.MULTILINE)
    assert row is not None
    spaces = ("resnet", "mobilenet", "resnet-mini", "mobilenet-mini", "mobilenet-mini-placed")
    found = [ceilings(reliability(cb.load(space).cells()).of_mean).kendall for space in spaces]
    assert [f"{value:.3f}".lstrip("0") for value in found] == row[1].split(" | ")


def test_what_the_released_scores_reach_is_what_the_page_says(published, scores_dir):
    import channel_bench as cb
    from harness.scores import read_scores
    from harness.stats.metrics import correlations

    for space, file in (
        ("resnet", "bin20_min1_bcnet_2_resnet.json"),
        ("mobilenet", "bin20_min1_bcnet_2.json"),
    ):
        if not (scores_dir / file).exists():
            pytest.skip(f"{file} is not here")
        scores = read_scores(scores_dir / file, cb.get_space(space))
        tau = correlations(scores.values, cb.load(space).accuracies()[scores.indices]).kendall
        assert f"{tau:.3f}".lstrip("0") in page_text("explanation/numbers.md")


def ablation_rows() -> list:
    """(space, method, cells) of the table of the additive fits."""
    rows, space = [], ""
    for line in page_text("explanation/denoising.md").splitlines():
        cells = [cell.strip(" *`") for cell in line.strip("|").split("|")]
        if len(cells) == 9 and cells[0] in ("resnet-mini", "mobilenet-mini"):
            space = cells[0]
        elif len(cells) == 9 and re.fullmatch(r"\.\d{3}", cells[1]):
            # One method of each space by default; the others take a minute together.
            marks = () if cells[0] == "bcnet" else pytest.mark.slow
            rows.append(pytest.param(space, cells[0], cells[1:], id=f"{space}: {cells[0]}", marks=marks))
    return rows


@pytest.mark.parametrize(("space", "method", "cells"), ablation_rows())
def test_the_additive_fits_lift_kendall_as_the_page_says(space, method, cells):
    """From the scores of the leaderboard; the columns of the loss and of 256 random scores need more than those."""
    import numpy as np

    import channel_bench as cb
    from harness.leaderboard.entries import entries_dir, read_entries, read_entry_scores
    from harness.smoothing import average_scores, smooth_scores
    from harness.stats.metrics import correlations

    (entry,) = [entry for entry in read_entries(entries_dir()) if entry.method == method]
    seeds = read_entry_scores(entry, cb.get_space(space))
    truth = cb.load(space).accuracies()

    def kendall(scores):
        return correlations(scores.values, truth[scores.indices]).kendall

    average = average_scores(seeds)
    found = {0: np.mean([kendall(scores) for scores in seeds])}
    found |= {
        n: np.mean([kendall(smooth_scores(s, form)) for s in seeds]) for n, form in ((1, "onehot"), (2, "concave"))
    }
    found |= {5: kendall(average), 6: kendall(smooth_scores(average, "concave"))}
    assert {n: f"{tau:.3f}".lstrip("0") for n, tau in found.items()} == {n: cells[n] for n in found}


def test_there_are_sixteen_rows_of_additive_fits():
    assert len(ablation_rows()) == 14


@pytest.mark.parametrize("place", [0, 1], ids=["resnet-mini", "mobilenet-mini"])
def test_the_worth_of_proxies_is_that_of_their_scores(place):
    """Both tables of the page: proxies from the leaderboard's scores, closed forms and ceiling anew."""
    import numpy as np

    import channel_bench as cb
    from harness.judge.baselines import BASELINES, baseline_scores
    from harness.leaderboard.entries import entries_dir, read_entries, read_entry_scores
    from harness.method import PROXIES
    from harness.stats.metrics import kendall

    space = cb.get_space(("resnet-mini", "mobilenet-mini")[place])
    truth = cb.load(space.name).accuracies()
    scores = {
        entry.method: [each.values for each in read_entry_scores(entry, space)]
        for entry in read_entries(entries_dir())
        if entry.method in PROXIES
    }
    scores |= {name: [values] for name, values in baseline_scores(space).items()}
    rows = re.findall(
        r"^\| `([a-z0-9_-]+)`(?:, closed form)? \| ([^|]+) \| ([^|]+) \|", page_text(PROXY_PAGE), re.MULTILINE
    )
    shown = {name: cells[place] for name, *cells in reversed(rows)}  # a table further below explains some of them
    assert set(shown) >= {*PROXIES, *BASELINES}
    for name in (*PROXIES, *BASELINES):
        taus = [kendall(values, truth) for values in scores[name]]
        spread = f" ({min(taus):.3f} to {max(taus):.3f})" if name in PROXIES else ""
        assert shown[name] == f"{np.mean(taus):.3f}{spread}".replace("0.", "."), name


@pytest.mark.parametrize("space", ["resnet", "mobilenet"])
def test_the_slot_table_is_that_of_the_code(space):
    import channel_bench as cb

    column = {"resnet": 1, "mobilenet": 3}[space]
    maxima = []
    for line in page_text("reference/spaces.md").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and re.fullmatch(r"\d(, \d)*", cells[0]):
            maxima += [int(cells[column])] * len(cells[0].split(", "))
    assert tuple(maxima) == cb.get_space(space).max_channels


def test_the_maxima_of_the_mini_spaces_are_those_of_the_code():
    import channel_bench as cb
    from channel_bench.table import shipped

    for space in map(cb.get_space, shipped.SPACES):
        maxima = " | ".join(map(str, space.max_channels))
        images = f"`{space.dataset}`, {'x'.join(map(str, space.input_shape[1:]))}"
        assert f"| `{space.name}` | {images} | {maxima} |" in page_text("reference/spaces.md")


def test_the_tables_of_names_have_every_name():
    from harness.judge.baselines import BASELINES
    from harness.stats.additive import FORMS

    assert all(f"| `{name}` |" in page_text("explanation/numbers.md") for name in BASELINES)
    assert all(f"| `{form}` |" in page_text("explanation/denoising.md") for form in FORMS)


def test_the_tutorial_explains_every_field_of_task_and_batch():
    """A reader must never need the source."""
    import dataclasses

    from harness.supernet.training import Batch
    from harness.task import Task

    text = page_text("tutorials/authors.md")
    public = {field.name for field in dataclasses.fields(Task)} | {name for name in vars(Task) if name[0] != "_"}
    assert [name for name in public if f"`task.{name}" not in text] == []
    assert [field.name for field in dataclasses.fields(Batch) if f"| `batch.{field.name}` |" not in text] == []


def test_the_citation_is_of_this_version():
    import channel_bench as cb

    text = (ROOT / "CITATION.cff").read_text()
    assert f"version: {cb.__version__}\n" in text and "doi" not in text.lower()
