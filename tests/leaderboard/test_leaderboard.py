"""The leaderboard: every entry is valid, every number follows from its scores, and what is reported stays apart."""

import copy
import functools
import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import channel_bench as cb
from channel_bench.errors import ArgumentError, ChannelBenchError, CorruptFileError, MissingDataError
from channel_bench.space import list_spaces
from channel_bench.table import Table, shipped
from harness.judge import comparison
from harness.judge.baselines import BASELINES, additive_curve, baseline_scores
from harness.judge.comparison import compare
from harness.leaderboard.board import make_board, to_json
from harness.leaderboard.entries import (
    entries_dir,
    make_entry,
    read_entries,
    read_entry,
    read_entry_scores,
    write_entry,
)
from harness.leaderboard.files import MARKERS, board_html, write_boards
from harness.leaderboard.sheets import overview_sheet, reported_sheet, sheets_of
from harness.method import PROXIES, SUPERNETS
from harness.report.sheets import to_latex, to_markdown
from harness.scores import make_scores, write_scores
from harness.smoothing import smooth_scores
from harness.stats.metrics import kendall

pytestmark = pytest.mark.xdist_group("leaderboard")
ROOT = Path(__file__).parents[2]
SPACE = cb.get_space("resnet-mini")
EVERYTHING = np.arange(16384)


def scores_of(values, seed=None, name="mine"):
    return make_scores(name, SPACE, EVERYTHING, values, {} if seed is None else {"seed": seed, "train_macs": 2e9})


@pytest.fixture(scope="module")
def entries():
    return read_entries(entries_dir())


@pytest.fixture(scope="module")
def scores_in(entries):
    """Scores of each entry of the package in a space; read, and fits made, once for all tests."""
    by_name = {entry.method: entry for entry in entries}

    @functools.cache
    def scores_in(method, space, external=None):
        return read_entry_scores(by_name[method], cb.get_space(space), external)

    return scores_in


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    """What trained architectures are worth, from few draws: of it, nothing here shows more than the words."""

    def curve(*given, num_draws, **options):
        return additive_curve(*given, num_draws=4, sizes=(8, 32, 512), **options)

    monkeypatch.setattr(comparison, "additive_curve", curve)


# -- the entries that come with the package -------------------------------------------------------------------------


def test_every_entry_is_valid_and_its_scores_are_those_it_names(entries, scores_in):
    for entry in entries:
        assert entry.path.name == f"{entry.method.replace('+', '-')}.json" and entry.notes and entry.code
        for name, result in entry.results.items():
            if result.scores is None or "file" not in result.scores:
                continue
            found = scores_in(entry.method, name)
            assert [scores.facts["seed"] for scores in found] == result.seeds
            assert all(len(scores.indices) == 16384 and np.ptp(scores.values) > 0 for scores in found)
            # The norm of weights is the one score that takes no multiply-accumulate.
            assert (found[0].facts["train_macs"] > 0) == (entry.method != "l2_norm") and result.compute["fit_s"] > 0
    files = {path.name for path in entries_dir().glob("*.parquet")}
    named = {result.scores.get("file") for entry in entries for result in entry.results.values() if result.scores}
    assert files == named - {None}


def test_every_method_and_every_baseline_has_an_entry(entries):
    from harness.method import METHODS

    methods = {entry.method for entry in entries}
    ours = set(METHODS.built_in)
    assert ours <= methods and set(BASELINES) <= methods
    assert {f"{name}+consensus" for name in SUPERNETS} <= methods
    spaces = {entry.method: set(entry.results) for entry in entries}
    assert all({"resnet-mini", "mobilenet-mini"} <= spaces[name] for name in ours)
    assert all(set(shipped.SPACES) <= spaces[name] & spaces[f"{name}+consensus"] for name in SUPERNETS)
    assert all(spaces[name] == set(list_spaces()) for name in BASELINES)


@pytest.mark.parametrize("space", shipped.SPACES)
def test_no_supernet_is_ahead_of_the_best_free_scores(scores_in, space):
    """As README and docs say, of each single supernet."""
    table = cb.load(space)
    free = baseline_scores(table.space)
    truth = table.accuracies()
    least = min(kendall(free[name], truth) for name in ("log-paths", "expected-synflow", "mean-of-theories"))
    found = [kendall(each.values, truth) for name in SUPERNETS for each in scores_in(name, space)]
    assert len(found) == 27 and max(found) < least


def test_the_numbers_of_the_paper_are_reported_only(entries):
    found = {
        (entry.method, name): tuple(result.reported[key] for key in ("pearson", "spearman", "kendall"))
        for entry in entries
        for name, result in entry.results.items()
        if result.reported
    }
    assert found == {
        ("tas", "mobilenet"): (0.762, 0.758, 0.587),
        ("autoslim", "mobilenet"): (0.795, 0.793, 0.604),
        ("bcnet", "mobilenet"): (0.817, 0.819, 0.652),
        ("tas", "resnet"): (0.787, 0.781, 0.606),
        ("autoslim", "resnet"): (0.803, 0.801, 0.612),
        ("bcnet", "resnet"): (0.849, 0.857, 0.684),
    }
    board = make_board(entries, "resnet", None)
    assert board.report is None and set(board.absent.values()) == {"its table is not here"}
    assert [line[0] for line in reported_sheet(board).rows] == ["bcnet", "autoslim", "tas"]
    cells = {line[0]: line[1] for line in overview_sheet([board]).rows}
    assert cells["bcnet"] == "reported 0.684" and cells["flops"] == "-" and "uniform" not in cells


def overview(text):
    """Rows of the overview in a Markdown text: method -> cells by space."""
    block = text[text.index("**Kendall tau-b with trained accuracy") :]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines() if line[:1] == "|"]
    last = next(number for number, line in enumerate(lines) if line[0] == "noise ceiling")
    spaces = lines[0][1:]
    rows = {line[0].replace("\\", ""): dict(zip(spaces, line[1:], strict=True)) for line in lines[2 : last + 1]}
    return {name.removesuffix(" (free)"): cells for name, cells in rows.items()}


def recomputed(entries, scores_in, space, table, external=None):
    groups = {}
    for entry in entries:
        if space in entry.results and (entry.results[space].scores or {}).keys() & {"file", "external", "derived"}:
            groups[entry.method] = scores_in(entry.method, space, external)
    return {row.name: f"{row.kendall:.3f}" for row in compare(groups, table).rows}


def of_each_row(entries, scores_in, table):
    """Kendall of every row whose scores are here, by the definition: all architectures, the mean over seeds."""
    space, truth = table.space.name, table.accuracies()
    columns = {name: [values] for name, values in baseline_scores(table.space).items()}
    for entry in entries:
        if (entry.results[space].scores if space in entry.results else {}).keys() & {"file", "derived"}:
            columns[entry.method] = [scores.values for scores in scores_in(entry.method, space)]
    return {name: f"{np.mean([kendall(each, truth) for each in some]):.3f}" for name, some in columns.items()}


@pytest.mark.parametrize("space", shipped.SPACES)
def test_the_numbers_that_are_shown_follow_from_the_scores(space, entries, scores_in):
    expected = of_each_row(entries, scores_in, cb.load(space))
    # The README has no proxies and no fits to scores; the page of the board has all, where those have no rank.
    short = {name: value for name, value in expected.items() if name not in PROXIES and "+" not in name}
    for file, wanted in ((ROOT / "README.md", short), (entries_dir() / "README.md", expected)):
        found = overview(file.read_text())
        shown = {name: cells[space].split() for name, cells in found.items() if name != "noise ceiling"}
        assert all((cell[0][0] == "#") == (name in short) for name, cell in shown.items() if cell != ["-"])
        values = {name: cell[cell[0][0] == "#"] for name, cell in shown.items() if cell != ["-"]}
        assert values == wanted


@pytest.mark.parametrize("space", ["resnet", "mobilenet"])
def test_the_numbers_of_the_published_spaces_follow_from_the_scores(space, entries, scores_in, published, scores_dir):
    expected = recomputed(entries, scores_in, space, cb.load(space, data_dir=published), scores_dir)
    found = overview((ROOT / "README.md").read_text())
    shown = {name: cells[space].split() for name, cells in found.items() if name != "noise ceiling"}
    assert {name: cell[1] for name, cell in shown.items() if cell[0] not in ("-", "reported")} == expected
    assert {"mobilenet": "0.832", "resnet": "0.809"}[space] == found["noise ceiling"][space]


def test_the_figure_of_the_readme_is_there():
    (path,) = re.findall(r"!\[[^]]*\]\((data/leaderboard/[^)]*)\)", (ROOT / "README.md").read_text())
    assert (ROOT / path).read_bytes().startswith(b"\x89PNG")


# -- entries of others ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made_folder(tmp_path_factory):
    """A folder with one entry of two seeds."""
    folder = tmp_path_factory.mktemp("made")
    rng = np.random.default_rng(0)
    rankings = [scores_of(rng.normal(size=16384), seed) for seed in (4, 5)]
    made = make_entry(rankings, method="mine", paper="me", url="https://example.org", code=None, notes=None)
    write_entry(made, folder)
    return folder


@pytest.fixture
def folder(made_folder, tmp_path):
    """A copy of that folder, to be changed."""
    return shutil.copytree(made_folder, tmp_path / "entries")


def test_an_entry_has_the_scores_that_went_in(folder):
    rng = np.random.default_rng(0)
    entry = read_entry(folder / "mine.json")
    assert entry.results["resnet-mini"].seeds == [4, 5]
    assert entry.results["resnet-mini"].compute == {"train_gmac": 2.0, "fit_s": None, "device": None}
    for scores in read_entry_scores(entry, SPACE):
        assert (scores.values == rng.normal(size=16384)).all()


def test_another_space_joins_the_entry_and_the_same_one_is_refused(folder):
    other = cb.get_space("mobilenet-mini")
    scores = make_scores("mine", other, EVERYTHING, np.arange(16384.0), {})
    made = make_entry([scores], method="mine", paper=None, url=None, code="see here", notes=None)
    write_entry(made, folder)
    entry = read_entry(folder / "mine.json")
    assert set(entry.results) == {"resnet-mini", "mobilenet-mini"} and entry.paper == "me" and entry.code == "see here"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ArgumentError, match="has 'mine' in mobilenet-mini, resnet-mini: delete that"):
        write_entry(made, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_scores_and_entry_cannot_drift_apart(folder):
    path = folder / "mine.resnet-mini.parquet"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(CorruptFileError, match="has SHA-256 .*, the entry says"):
        make_board(read_entries(folder), "resnet-mini", cb.load("resnet-mini"))
    path.unlink()
    with pytest.raises(MissingDataError, match="does not exist"):
        make_board(read_entries(folder), "resnet-mini", cb.load("resnet-mini"))


@pytest.mark.parametrize(
    ("rankings", "message"),
    [
        ([scores_of(np.arange(16384.0), 1)] * 2, "seeds of the rankings are"),
        ([scores_of(np.arange(16384.0), None)] * 2, "have the same scores: give each ranking once"),
        ([scores_of(np.arange(16384.0), None), scores_of(-np.arange(16384.0), 1)], "need seeds that differ"),
        (
            [make_scores("m", SPACE, EVERYTHING[:9000], np.arange(9000.0))],
            "the rankings score 9,000 of 16,384",
        ),
        ([scores_of(np.arange(16384.0), 1), make_scores("m", SPACE, [0, 1], [1, 2], {"seed": 2})], "different arch"),
    ],
)
def test_rankings_that_make_no_entry(rankings, message):
    with pytest.raises(ArgumentError, match=message):
        make_entry(rankings, method="mine", paper=None, url=None, code=None, notes=None)


def changed(**changes):
    return lambda entry: entry | changes


def result(**changes):
    def change(entry):
        return entry | {"results": {"resnet-mini": entry["results"]["resnet-mini"] | changes}}

    return change


@pytest.mark.parametrize(
    ("method", "url", "message"),
    [
        ("flops", None, "is reserved for a free baseline"),
        ("", None, "is not a name for a method"),
        ("mine", "javascript:alert(1)", "is not an address: allowed are http"),
    ],
)
def test_what_the_leaderboard_would_refuse_is_not_entered(method, url, message):
    with pytest.raises(ArgumentError, match=message):
        make_entry([scores_of(np.arange(16384.0))], method=method, paper=None, url=url, code=None, notes=None)


WRONG = {
    "taken name": (changed(method="flops"), "has the name of a free baseline, whose scores are not given"),
    "no address": (changed(url="ftp://x"), "is not an address: allowed are http"),
    "no JSON": (lambda entry: None, "is not valid JSON"),
    "a list": (lambda entry: [entry], "the entry is .* allowed is dict"),
    "unknown key": (changed(author="me"), "has author: its keys are method, paper"),
    "missing key": (lambda entry: {key: entry[key] for key in entry if key != "code"}, "lacks code"),
    "number as name": (changed(method=3), "method is '3': allowed is str"),
    "no results": (changed(results={}), "results is empty"),
    "unknown space": (changed(results={"resnt": {}}), "unknown space .*did you mean 'resnet'"),
    "unknown baseline": (result(scores={"baseline": "flop"}), "unknown baseline .*did you mean 'flops'"),
    "no sum": (result(scores={"file": "a.csv"}), "lacks sha256"),
    "an unknown form": (result(scores={"derived": "mine", "form": "cubic"}), "unknown form in entry .*'cubic'"),
    "another name": (result(scores={"derived": "other", "form": "log"}), "name is 'mine': .* make it other[+]log"),
    "a path": (result(scores={"file": "../a.csv", "sha256": "0"}), "is not a file name"),
    "a seed": (result(seeds=["0"]), "a seed of resnet-mini is '0': allowed is int"),
    "compute": (result(compute={"gpu": 3}), "lacks train_gmac, fit_s, device and has gpu"),
    "a reported word": (
        result(reported={"kendall": "high", "spearman": None, "pearson": None, "source": "x"}),
        "kendall of resnet-mini is 'high': allowed is int or float or null",
    ),
    "nothing": (result(scores=None), "has neither scores nor reported numbers"),
    "a null byte": (result(scores={"file": "a\0.csv", "sha256": "0"}), "is not a file name"),
    "a long name": (result(scores={"external": "a" * 300, "sha256": "0" * 64, "source": "x"}), "longer than 255 bytes"),
    "no sum at all": (result(scores={"file": "a.csv", "sha256": "0"}), "allowed are 64 hexadecimal digits"),
    "a negative seed": (result(seeds=[-5]), "a seed of resnet-mini is -5: allowed are 0 to"),
    "a seed twice": (result(seeds=[4, 4]), "seed 4 of resnet-mini is there twice"),
    "a huge GMAC": (result(compute={"train_gmac": 10**400, "fit_s": 1, "device": None}), "does not fit 64 bits"),
    "a negative GMAC": (result(compute={"train_gmac": -1, "fit_s": 1, "device": None}), "train_gmac .* is -1: allowed"),
    "an endless GMAC": (result(compute={"train_gmac": 1e999, "fit_s": 1, "device": None}), "Infinity is no number"),
    "a Kendall of 5": (
        result(reported={"kendall": 5, "spearman": None, "pearson": None, "source": "x"}),
        "kendall of resnet-mini is 5: allowed are -1 to 1",
    ),
    "a Kendall of NaN": (
        result(reported={"kendall": float("nan"), "spearman": None, "pearson": None, "source": "x"}),
        "NaN is no number",
    ),
    "half a character": (changed(paper="\ud800"), "half a surrogate pair"),
    "a novel": (changed(notes="x" * 3000), "notes has 3,000 characters"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_entry_is_one_clear_line(case, folder, run_cli):
    change, message = WRONG[case]
    path = folder / "mine.json"
    content = change(json.loads(path.read_text()))
    path.write_text("{" if content is None else json.dumps(content))
    with pytest.raises(ChannelBenchError, match=message):
        read_entries(folder)
    code, output, errors = run_cli("channel-harness", "leaderboard", "--entries", folder)
    assert (code, output, errors.count("\n")) == (2, "", 1) and re.search(message, errors)


def test_a_key_that_stands_twice_is_refused(folder):
    path = folder / "mine.json"
    path.write_text(path.read_text().replace('"method"', '"method": "other", "method"', 1))
    with pytest.raises(CorruptFileError, match="key 'method' stands twice"):
        read_entry(path)


def test_broken_entries_hide_no_other(folder, run_cli):
    for name in ("lost", "damaged"):
        made = make_entry(
            [scores_of(np.random.default_rng(5).normal(size=16384))],
            method=name, paper=None, url=None, code=None, notes=None,
        )  # fmt: skip
        write_entry(made, folder)
    (folder / "lost.resnet-mini.parquet").unlink()
    (folder / "damaged.resnet-mini.parquet").write_bytes(b"PAR1")
    (folder / "worse.json").write_text("{")
    shown = ("--space", "resnet-mini", "--entries", folder, "--replicates", 0)
    code, output, errors = run_cli("channel-harness", "leaderboard", *shown, "--json")
    (found,) = json.loads(output)
    methods = {row["name"] for row in found["report"]["comparison"]["rows"] if row["kind"] == "method"}
    assert code == 0 and methods == {"mine"} and found["absent"].keys() == {"lost", "damaged"}
    lines = [line for line in errors.splitlines() if line.startswith("left out: ")]
    assert len(lines) == 3 and all(any(name in line for line in lines) for name in ("lost", "damaged", "worse.json"))
    with pytest.raises(CorruptFileError, match="worse.json"):
        read_entries(folder)


@pytest.mark.parametrize("damage", ["missing", "other"])
def test_an_entry_whose_scores_are_broken_is_replaced(folder, damage):
    path = folder / "mine.resnet-mini.parquet"
    path.unlink() if damage == "missing" else path.write_bytes(b"PAR1")
    made = make_entry(
        [scores_of(np.arange(16384.0), 7)], method="mine", paper=None, url=None, code=None, notes=None
    )  # fmt: skip
    written = write_entry(made, folder)
    assert written[-1].name == "mine.json"  # moved last, so that a kill leaves no entry without its scores
    (scores,) = read_entry_scores(read_entry(folder / "mine.json"), SPACE)
    assert scores.facts["seed"] == 7 and (scores.values == np.arange(16384.0)).all()
    with pytest.raises(ArgumentError, match="delete that"):
        write_entry(made, folder)


def test_two_entries_of_one_name_and_an_empty_folder_are_refused(folder, tmp_path):
    shutil.copy(folder / "mine.json", folder / "other.json")
    with pytest.raises(ArgumentError, match="two entries .* are called 'mine'"):
        read_entries(folder)
    with pytest.raises(MissingDataError, match="no leaderboard entry"):
        read_entries(tmp_path / "nowhere")


def test_few_scores_would_pull_all_others_down_and_are_refused(folder, tmp_path):
    path = folder / "mine.resnet-mini.parquet"
    write_scores(make_scores("part", SPACE, EVERYTHING[:9000], np.arange(9000.0)), path)
    content = json.loads((folder / "mine.json").read_text())
    content["results"]["resnet-mini"] |= {
        "scores": {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()},
        "seeds": [],
    }
    (folder / "mine.json").write_text(json.dumps(content))
    with pytest.raises(ArgumentError, match="has 9,000 of 16,384 architectures: an entry needs 99%"):
        read_entry_scores(read_entry(folder / "mine.json"), SPACE)


def test_scores_that_are_not_passed_on_are_judged_by_who_has_them(folder, tmp_path, small_table_path):
    table = Table.read(small_table_path)
    path = folder / "mine.json"
    content = json.loads(path.read_text())
    scores = content["results"]["resnet-mini"]["scores"]
    source = {"external": scores["file"], "sha256": scores["sha256"], "source": "the authors' page"}
    content["results"]["resnet-mini"]["scores"] = source
    path.write_text(json.dumps(content))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.move(folder / scores["file"], elsewhere)
    without = make_board(read_entries(folder), "resnet-mini", table, num_replicates=0)
    assert (
        without.report is None and "from the authors' page; name its folder with --external" in without.absent["mine"]
    )
    assert without.absent["mine"] in " ".join(note for sheet in sheets_of([without]) for note in sheet.notes)
    found = make_board(read_entries(folder), "resnet-mini", table, external_dir=elsewhere, num_replicates=0)
    assert not found.absent and found.report.comparison.rows[0].name == "mine"


# -- what is written ------------------------------------------------------------------------------------------------


def test_a_fit_to_an_entrys_scores_is_entered_without_a_file(folder, run_cli):
    path = folder / "mine-log.json"
    words = ("channel-harness", "enter", "mine+log", "--space", "resnet-mini", "--entries", folder)
    assert run_cli(*words)[0] == 0
    assert sorted(each.name for each in folder.iterdir()) == ["mine-log.json", "mine.json", "mine.resnet-mini.parquet"]
    entry, source = read_entry(path), read_entry(folder / "mine.json")
    assert entry.method == "mine+log" and entry.paper == "me" and entry.notes.startswith("derived: per slot")
    assert entry.results["resnet-mini"].compute == source.results["resnet-mini"].compute
    for found, own in zip(read_entry_scores(entry, SPACE), read_entry_scores(source, SPACE), strict=True):
        assert found.method == "mine+log" and found.facts["seed"] == own.facts["seed"]
        assert (found.values == smooth_scores(own, "log").values).all()
    code, output, _ = run_cli("channel-harness", "leaderboard", "--entries", folder, "--space", "resnet-mini",
                              "--replicates", "0")  # fmt: skip
    assert code == 0 and "mine+log" in output
    assert run_cli("channel-harness", "check-entry", path, "--replicates", "0")[0] == 0
    code, _, errors = run_cli(*words)
    assert code == 2 and "has 'mine+log' in resnet-mini: delete that" in errors
    # What it is a fit to is gone, or has other seeds.
    content = json.loads((folder / "mine.json").read_text())
    content["results"]["resnet-mini"]["seeds"] = [4, 6]
    (folder / "mine.json").write_text(json.dumps(content))
    with pytest.raises(ArgumentError, match=r"has seeds \[4, 5\] in resnet-mini, the scores .* have \[4, 6\]"):
        read_entry_scores(entry, SPACE)
    (folder / "mine.json").unlink()
    with pytest.raises(ArgumentError, match="is a fit to scores of 'mine' in resnet-mini: its folder has no entry"):
        read_entry_scores(entry, SPACE)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("mine", "'mine' without score files: give one for each seed, or METHOD[+]FORM"),
        ("+log", "without score files"),
        ("mine+cubic", "unknown form 'cubic'"),
        ("other+log", "other.json' does not exist"),
    ],
)
def test_a_fit_to_no_entry_is_not_entered(method, message, folder, run_cli):
    code, output, errors = run_cli("channel-harness", "enter", method, "--space", "resnet-mini", "--entries", folder)
    assert (code, output, errors.count("\n")) == (2, "", 1) and re.search(message, errors)


@pytest.fixture(scope="module")
def made_board(made_folder, small_table_path):
    return make_board(read_entries(made_folder), "resnet-mini", Table.read(small_table_path), num_replicates=10)


@pytest.fixture
def board(made_board):
    """A copy of a board, to be changed."""
    return copy.deepcopy(made_board)


def test_all_formats_show_the_same_numbers(board, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{MARKERS[0]}\nold\n{MARKERS[1]}\nafter\n")
    written = write_boards([board], tmp_path / "out", readme=readme)
    assert {path.name for path in written} == {"README.md", "leaderboard.html", "kendall.png"}
    tau = f"{board.report.comparison.rows[0].kendall:.3f}"
    text = readme.read_text()
    assert text.startswith(f"before\n{MARKERS[0]}\n**Kendall") and text.endswith(f"{MARKERS[1]}\nafter\n")
    assert "old" not in text and overview(text)["mine"]["resnet-mini"].startswith(f"#1 {tau}")
    page = (tmp_path / "out" / "leaderboard.html").read_text()
    assert f"<tr><td>1</td><td>mine</td><td>2</td><td>{tau}</td>" in page and "begins a new one (paired tests" in page
    assert '<a href="https://example.org">me</a>' in page and "data:image/png" in page
    assert tau in (tmp_path / "out" / "README.md").read_text()
    (found,) = to_json([board])
    assert found["ranks"] == {"mine": 1}  # the free baselines have no entry in this folder, so they take no rank
    assert f"{found['report']['comparison']['rows'][0]['kendall']:.3f}" == tau
    json.dumps(found, allow_nan=False)


def test_a_name_cannot_break_out_of_the_page(board):
    name = "</td><script>alert(1)</script>"
    entry = board.entries["mine"]
    row = board.report.comparison.rows[0]
    for value, key in ((entry, "method"), (row, "name"), (board.report.details[0], "name")):
        object.__setattr__(value, key, name)
    board.entries[name] = board.entries.pop("mine")
    page = board_html([board])
    assert "<script" not in page and "&lt;script&gt;" in page


def test_nothing_that_a_terminal_obeys_comes_out_of_an_entry(board):
    for key in ("paper", "code"):
        object.__setattr__(board.entries["mine"], key, "red\x1b[31m\u202eder")
    for text in (board_html([board]), *map(to_markdown, sheets_of([board])), *map(to_latex, sheets_of([board]))):
        assert "\x1b" not in text and "\u202e" not in text
    assert "red\ufffd[31m\ufffdder" in board_html([board])


def test_a_readme_without_a_place_for_it_is_left_alone(board, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("nothing")
    with pytest.raises(ArgumentError, match="has no place for the overview: put it between"):
        write_boards([board], tmp_path / "out", figures=False, readme=readme)
    assert readme.read_text() == "nothing" and not (tmp_path / "out").exists()


def test_from_scores_to_the_leaderboard_on_the_command_line(tmp_path, run_cli):
    rng = np.random.default_rng(1)
    files = []
    for seed in (0, 1):
        files.append(tmp_path / f"s{seed}.parquet")
        write_scores(scores_of(rng.normal(size=16384), seed, "ours"), files[-1])
    folder = tmp_path / "entries"
    target = ("--space", "resnet-mini", "--entries", folder)
    code, _, errors = run_cli("channel-harness", "enter", "Our Method", *files, *target, "--paper", "we, 2026")
    assert code == 0 and "Our-Method.json" in errors
    code, output, _ = run_cli("channel-harness", "leaderboard", *target, "--replicates", 2, "--json")
    (found,) = json.loads(output)
    row = found["report"]["comparison"]["rows"][0]
    assert code == 0 and row["name"] == "Our Method" and [each["seed"] for each in row["rankings"]] == [0, 1]
    code, output, _ = run_cli("channel-harness", "leaderboard", *target, "--replicates", 2)
    assert code == 0 and "we, 2026" in output and "noise ceiling, what a perfect predictor" in output
    code, _, errors = run_cli("channel-harness", "enter", "Our Method", *files, *target)
    assert code == 2 and "delete that result first" in errors
    code, _, errors = run_cli("channel-harness", "leaderboard", *target, "--readme", tmp_path / "README.md")
    assert code == 2 and "--readme needs --out FOLDER" in errors


def test_two_names_with_one_file_name_are_told_apart(tmp_path):
    def entry(name):
        scores = [scores_of(np.arange(16384.0), 7)]
        return make_entry(scores, method=name, paper=None, url=None, code=None, notes=None)

    write_entry(entry("a/b"), tmp_path)
    with pytest.raises(ArgumentError, match="is the entry of 'a/b', whose file has the same name as that of 'a b'"):
        write_entry(entry("a b"), tmp_path)
    assert {path.name for path in entry("é²x")} == {"--x.json", "--x.resnet-mini.parquet"}
