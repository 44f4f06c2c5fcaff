"""The report: grouping of files, numbers that agree with their sources, every output format, and honest verdicts."""

import builtins
import dataclasses
import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from conftest import make_info, make_rows, write_table

import channel_bench as cb
from channel_bench.errors import ArgumentError, BudgetError, MissingPackageError, StorageError, UnknownNameError
from channel_bench.table import Table
from harness.judge.comparison import compare
from harness.judge.groups import group_rankings
from harness.judge.verdict import holm, make_report, shown_pairs
from harness.report.figures import draw_kendall, figure_files, figure_title
from harness.report.files import write_report
from harness.report.sheets import Sheet, to_html, to_latex, to_markdown
from harness.report.verdict_sheets import print_report, report_sheets
from harness.scores import make_scores, write_scores
from harness.stats.metrics import kendall

pytestmark = pytest.mark.xdist_group("report")  # what is made once serves all
SPACE = cb.get_space("resnet-mini")
EVERYTHING = np.arange(16384)


def scores_of(values, name="mine", **facts):
    return make_scores(name, SPACE, EVERYTHING, values, facts)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """2,000 architectures of the table that comes with the package: enough to tell methods apart, and fast."""
    whole = cb.load("resnet-mini")
    texts = np.array(SPACE.texts())[np.random.default_rng(7).choice(16384, 2000, replace=False)]
    rows = whole.arrow.filter(pc.is_in(whole.arrow["arch"].cast(pa.string()), pa.array(texts)))
    path = tmp_path_factory.mktemp("report") / "part.parquet"
    return Table.read(write_table(path, rows.to_pylist(), whole.info))


@pytest.fixture(scope="module")
def rankings(table):
    """Two seeds of a good scorer, one shuffled, one that copies a run."""
    rng = np.random.default_rng(0)
    truth = np.nan_to_num(table.accuracies(), nan=50.0)
    good = [scores_of(truth + 6 * rng.normal(size=16384), "good", seed=seed) for seed in (1, 0)]
    return [
        *good,
        scores_of(rng.permutation(truth), "shuffled"),
        scores_of(np.nan_to_num(table.accuracies(run=1), nan=50.0) + 0.1 * rng.normal(size=16384), "copied"),
    ]


@pytest.fixture(scope="module")
def report(table, rankings):
    return make_report(rankings, table, num_replicates=60, num_draws=5)


# -- grouping -------------------------------------------------------------------------------------------------------


def test_files_of_one_method_are_seeds_and_other_settings_are_other_methods():
    values = np.arange(16384.0)
    files = [
        scores_of(values, "a", seed=2, bn="batch", recipe={"name": "r", "epochs": 5}),
        scores_of(values, "a", seed=0, bn="batch", recipe={"name": "r", "epochs": 5}),
        scores_of(values, "a", seed=0, bn="recalibrated", recipe={"name": "r", "epochs": 5}),
        scores_of(values, "a", seed=0, bn="batch", recipe={"name": "r", "epochs": 9}),
        scores_of(values, "b", fit_s=3.0),
    ]
    groups = group_rankings(files)
    assert {name: [each.facts.get("seed") for each in group] for name, group in groups.items()} == {
        "a bn=batch, epochs=5": [0, 2],
        "a bn=recalibrated, epochs=5": [0],
        "a bn=batch, epochs=9": [0],
        "b": [None],
    }


@pytest.mark.parametrize("facts", [{}, {"seed": 3}])
def test_one_ranking_given_twice_is_refused(facts):
    which = "have seed 3: give each ranking once, or names" if facts else "have the same scores: give each ranking once"
    with pytest.raises(ArgumentError, match=f"two rankings of 'mine' {which}"):
        group_rankings([scores_of(np.arange(16384.0), **facts)] * 2)


def test_files_that_do_not_say_their_seed_are_numbered():
    rng = np.random.default_rng(2)
    groups = group_rankings([scores_of(rng.normal(size=16384)) for _ in range(3)])
    assert [each.facts["seed"] for each in groups["mine"]] == [0, 1, 2]


@pytest.mark.parametrize("name", ["flops", "noise ceiling", "", " ", "a\nb", "x" * 121])
def test_names_that_are_taken_or_none_are_refused(name, table):
    for given in (scores_of(np.arange(16384.0), name), {name: scores_of(np.arange(16384.0))}):
        with pytest.raises(ArgumentError, match="is reserved for a free baseline|is not a name for a method"):
            make_report(given, table, num_replicates=0, num_draws=None)


@pytest.mark.parametrize("given", [{"a": []}, ["a file"], {"a": ["a file"]}])
def test_what_are_no_scores_is_refused(given, table):
    with pytest.raises(ArgumentError, match="`Scores`"):
        make_report(given, table)


def test_methods_are_compared_on_what_all_of_them_score(table):
    rng = np.random.default_rng(1)
    part = make_scores("part", SPACE, EVERYTHING[:5000], rng.normal(size=5000))
    truth = table.accuracies()
    trained = np.isfinite(truth[:5000])
    comparison = compare([scores_of(np.nan_to_num(truth), "whole"), part], table)
    assert {row.n for row in comparison.rows} == {trained.sum()} and len(comparison.missing) == 16384 - 5000
    assert comparison.rows[0].name == "whole" and comparison.rows[0].kendall == pytest.approx(1)
    assert comparison.rows[1].kendall == kendall(part.values[trained], truth[:5000][trained])
    assert [row.rankings[0].num_missing for row in comparison.methods] == [0, 11384]


# -- numbers --------------------------------------------------------------------------------------------------------


def test_a_method_is_the_mean_of_its_seeds(report, table, rankings):
    row = next(row for row in report.comparison.rows if row.name == "good")
    truth = table.accuracies()
    trained = np.isfinite(truth)
    taus = [kendall(each.values[trained], truth[trained]) for each in rankings[:2]]
    assert row.kendall == pytest.approx(np.mean(taus)) and [each.seed for each in row.rankings] == [0, 1]
    assert row.seed_std == pytest.approx(np.std(taus, ddof=1))
    detail = report.detail("good")
    assert detail.summary["kendall"] == pytest.approx(row.kendall)
    assert detail.summary["kendall_at_equal_flops"] == pytest.approx(row.equal_flops.mean)
    assert detail.intervals["kendall"].estimate == pytest.approx(row.kendall)
    assert detail.intervals["p_at_top10"].estimate == pytest.approx(detail.summary["p_at_top10"])
    assert report.over == ("archs", "runs", "seeds")
    median = sorted(zip(taus, (1, 0), strict=True))[0][1]  # the lower one of two
    assert detail.seed == median
    shown = next(each for each in rankings if each.facts.get("seed") == median)
    assert (report.arrays.scores["good"] == shown.values).all()


def test_verdicts_are_honest(report):
    rows = {row.name: row for row in report.comparison.rows}
    nothing = report.interval("shuffled")
    assert nothing.low < 0 < nothing.high and abs(rows["shuffled"].kendall) < 0.05
    checks = rows["copied"].rankings[0].seen
    assert checks.flagged == [1] and not rows["good"].rankings[0].seen.flagged
    assert checks.checks[1].with_others < rows["copied"].kendall
    text = " ".join(note for sheet in report_sheets(report) for note in sheet.notes)
    assert "copied follows the noise of run 1, which it must have seen" in text


def test_a_scorer_that_knows_the_truth_reaches_the_ceiling_and_no_more(tmp_path):
    rng = np.random.default_rng(3)
    truth = 80 + 3 * rng.normal(size=16384)
    rows = make_rows(SPACE, 2048, 3)
    for row in rows:
        row["best_test_acc"] = truth[SPACE.index(row["arch"])] + 2.5 * rng.normal()
    table = Table.read(write_table(tmp_path / "t.parquet", rows, make_info(SPACE)))
    report = make_report([scores_of(truth, "knows")], table, num_replicates=60, num_draws=None)
    row, interval = report.comparison.rows[0], report.interval("knows")
    assert row.of_ceiling.kendall == pytest.approx(1, abs=0.03)
    assert interval.low < report.comparison.ceiling.kendall < interval.high
    assert row.worth is None and report.comparison.curve is None


def test_a_figure_of_one_seed_says_which_and_its_own_number(report):
    row = next(row for row in report.comparison.rows if row.name == "good")
    detail = report.detail("good")
    tau = next(each.kendall for each in row.rankings if each.seed == detail.seed)
    assert figure_title(report, detail) == f"good, seed {detail.seed}  {tau:.3f}"
    assert figure_title(report, report.detail("copied")).startswith("copied  ")


def test_tests_between_methods(report):
    names = [row.name for row in report.comparison.rows]
    pairs = {(pair.first, pair.second) for pair in report.differences}
    assert pairs == {(a, b) for i, a in enumerate(names) for b in names[i + 1 :]}
    pair = report.paired("good", "shuffled")
    assert pair.difference.interval.low > 0 and pair.difference.p_value < 0.05
    alone = report.paired("copied", "shuffled")  # a seed each
    assert alone.difference.p_value < 1e-6
    shown = shown_pairs(report.comparison)
    assert {(each.first, each.second) for each in report.differences if each.p_adjusted is not None} == set(shown)
    assert ("copied", report.comparison.best_baseline.name) in shown and len(shown) == 2 * 3 - 1
    expected = holm([report.paired(*each).difference.p_value for each in shown])
    assert [report.paired(*each).p_adjusted for each in shown] == expected
    back = report.paired("shuffled", "good")
    assert back.difference.interval.high == -pair.difference.interval.low and back.p_adjusted == pair.p_adjusted
    with pytest.raises(UnknownNameError, match="does not compare 'flops' with 'flosp'"):
        report.paired("flops", "flosp")


def test_holm_by_hand():
    # Sorted .01 .03 .04 times 3, 2, 1 is .03 .06 .04, and no one may be below the one before it.
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == pytest.approx([1.0, 1.0])
    adjusted = holm([0.02, float("nan"), 0.04])
    assert adjusted[0] == pytest.approx(0.04) and np.isnan(adjusted[1]) and adjusted[2] == pytest.approx(0.04)
    assert holm([]) == []


def test_choices_keep_to_their_budgets(report, table):
    most, truth = SPACE.flops().max(), table.accuracies()
    trained = np.isfinite(truth)
    assert report.budgets == [0.25 * most, 0.5 * most, 0.75 * most]
    for detail in report.details:
        for pick, budget in zip(detail.picks, report.budgets, strict=True):
            assert all(SPACE.flops(arch) <= budget for arch in pick.archs)
            assert pick.num_fitting == (trained & (SPACE.flops() <= budget)).sum()
            assert pick.best == truth[trained & (SPACE.flops() <= budget)].max().round(4)
            assert pick.regret == pytest.approx(pick.best - pick.accuracy) and pick.regret >= 0
    flops = report.detail("flops").picks[0]
    fits = np.flatnonzero(trained & (SPACE.flops() <= report.budgets[0]))
    largest = fits[SPACE.flops()[fits] == SPACE.flops()[fits].max()]
    assert flops.accuracy == pytest.approx(truth[largest].mean(), abs=1e-4)


def test_without_replicates_there_are_no_intervals(table, rankings):
    report = make_report(rankings[:1], table, num_replicates=0, num_draws=None, budgets=[])
    assert report.differences == [] and report.over == () and report.interval("good") is None
    titles = [sheet.title for sheet in report_sheets(report)]
    assert not any("paired" in title or "budgets" in title for title in titles)


def test_a_small_table_and_constant_scores_are_judged_as_far_as_they_go(small_table_path):
    table = Table.read(small_table_path)
    report = make_report([scores_of(np.ones(16384), "constant")], table, num_replicates=10, num_draws=5)
    row = report.comparison.methods[0]
    assert np.isnan(row.kendall) and report.detail("constant").diagnosis.effects is None
    assert "has 1 of 4 widths" in report.comparison.no_curve
    assert "undefined" in to_markdown(report_sheets(report)[0])
    json.dumps(report.to_dict(), allow_nan=False)


def test_a_handful_of_architectures_gets_a_warning_and_no_conclusions(table):
    few = np.flatnonzero(np.isfinite(table.accuracies()))[:29]
    report = make_report(make_scores("few", SPACE, few, table.accuracies()[few]), table, num_draws=5)
    assert report.num_replicates == 0 and report.differences == []
    notes = report_sheets(report)[0].notes
    assert notes[0].startswith("only 29 architectures have all scores") and not any("is above the" in x for x in notes)


@pytest.mark.processes
@pytest.mark.parametrize("scale", [1e307, 1e-300])
def test_scores_of_any_size_are_drawn(scale, table, tmp_path):
    values = np.random.default_rng(4).uniform(-1, 1, 16384)
    report = make_report(scores_of(values * scale, "[/red] $\\foo$"), table, num_replicates=5, num_draws=None)
    plain = make_report(scores_of(values, "[/red] $\\foo$"), table, num_replicates=5, num_draws=None)
    assert report.comparison.rows[0].kendall == pytest.approx(plain.comparison.rows[0].kendall)
    effects = [each.details[0].diagnosis.effects.scores for each in (report, plain)]
    assert effects[0] == pytest.approx(effects[1])
    assert "report.html" in {path.name for path in write_report(report, str(tmp_path))}
    print_report(report)


def test_files_of_an_earlier_report_do_not_stay_beside_a_new_one(report, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "worth.png").write_text("of an earlier report")
    (tmp_path / "report.html").write_text("of an earlier report")
    write_report(report, tmp_path, figures=False)
    assert {path.name for path in tmp_path.iterdir()} == {"mine.txt", "report.json", "report.md", "report.tex"}


def test_a_single_run_as_the_truth_has_no_runs_to_resample(table, rankings):
    report = make_report(rankings[:1], table, run=0, num_replicates=10, num_draws=None)
    assert report.over == ("archs",) and "run 0" in report.comparison.truth
    assert set(report.detail("good").intervals) == {"kendall", "spearman", "pearson"}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_replicates": 1}, ArgumentError, "number of replicates is 1: allowed are 2 and more, or 0"),
        ({"num_replicates": -4}, ArgumentError, "number of replicates is -4"),
        ({"level": 95}, ArgumentError, "level of an interval is 95"),
        ({"budgets": [1.0]}, BudgetError, "no compared architecture costs at most 1 FLOPs"),
    ],
)
def test_bad_requests_are_refused(options, error, message, table, rankings):
    with pytest.raises(error, match=message):
        make_report(rankings[:1], table, **({"num_replicates": 5, "num_draws": None} | options))


# -- formats --------------------------------------------------------------------------------------------------------


@pytest.mark.processes
def test_every_format_has_every_row(report, tmp_path):
    written = {path.name: path for path in write_report(report, tmp_path / "out")}
    figures = {"kendall", "worth", "scatter", "slot_effects", "rank_calibration", "kendall_along_flops"}
    texts = {f"report.{kind}" for kind in ("json", "md", "tex", "html")}
    assert written.keys() == texts | {f"{name}.{kind}" for name in figures for kind in ("png", "pdf")}
    assert all(written[f"{name}.png"].read_bytes().startswith(b"\x89PNG") for name in figures)
    assert all(written[f"{name}.pdf"].read_bytes().startswith(b"%PDF") for name in figures)
    content = json.loads(written["report.json"].read_text())
    assert [row["name"] for row in content["comparison"]["rows"]] == [row.name for row in report.comparison.rows]
    assert content["details"][0]["diagnosis"]["effects"]["truth"] == report.details[0].diagnosis.effects.truth.tolist()
    assert content["table_sha256"] == report.table_sha256 is not None
    markdown, latex = written["report.md"].read_text(), written["report.tex"].read_text()
    for row in report.comparison.rows:
        assert f"| {row.name} | " in markdown and f"    {row.name} & {row.kendall:.3f}" in latex.replace("$-$", "-")
    paper = latex[: latex.index("Everything else")].splitlines()
    rules = [number for number, line in enumerate(paper) if "midrule" in line]
    free = next(number for number, line in enumerate(paper) if line.startswith("    flops & "))
    assert rules[1] == free - 1 and max(map(len, paper[free:])) < 80
    assert "![slot effects](slot_effects.png)" in markdown
    again = {path.name: path.read_bytes() for path in write_report(report, tmp_path / "again", figures=False)}
    assert all(again[name] == written[name].read_bytes() for name in ("report.json", "report.tex"))
    for name, data in figure_files("kendall", draw_kendall(report)).items():
        assert data == figure_files("kendall", draw_kendall(report))[name]


def test_tables_are_rectangular_and_nothing_breaks_out_of_them():
    name = r"a|b_50% & <b>\x{y}~^#$"
    sheet = Sheet(name, ["method", "tau"], [[name, "1"], ["b", "-"]], [name], {"b": "https://example.org/a?b=1"})
    latex, page, markdown = to_latex(sheet, "tab:x"), to_html(sheet), to_markdown(sheet)
    body = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert len(body) == 3 and all(len(re.findall(r"(?<!\\)&", line)) == 1 for line in body)
    assert not re.search(r"(?<!\\)[%#$_]", latex.replace("tab:x", "")) and r"\textbackslash{}x\{y\}" in latex
    assert "<b>" not in page and "&lt;b&gt;" in page and '<a href="https://example.org/a?b=1">b</a>' in page
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in rows) and "<b>" not in markdown.replace(r"\<b", "")
    assert "[b](https://example.org/a?b=1)" in markdown


def test_addresses_that_are_none_are_no_links():
    for link in ("javascript:alert(1)", "https://a b", 'https://x"onclick="', "https://x)("):
        sheet = Sheet("t", ["method"], [["b"]], [], {"b": link})
        assert "href" not in to_html(sheet) and "](" not in to_markdown(sheet)


def test_without_matplotlib_it_is_said_and_nothing_is_written(report, tmp_path, monkeypatch):
    real = builtins.__import__

    def missing(name, *arguments, **options):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingPackageError, match=r"pip install 'channel-bench\[report\]'"):
        write_report(report, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert {path.suffix for path in write_report(report, tmp_path / "out", figures=False)} >= {".json", ".md", ".tex"}


# -- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory, rankings):
    folder, paths = tmp_path_factory.mktemp("files"), []
    for number, scores in enumerate(rankings[:2]):
        paths.append(folder / f"good-{number}.parquet")
        write_scores(scores, paths[-1])
    plain = folder / "plain.csv"
    plain.write_text("arch,score\n" + "".join(f"{SPACE.text(i)},{i % 97}\n" for i in range(16384)))
    return [*paths, f"other name={plain}"]


def test_the_command_reports(files, table, tmp_path, run_cli):
    target = ("--space", "resnet-mini", "--replicates", 8, "--draws", 3, "--budget", "0.5x", "--no-figures")
    target = (*target, "--table", table.path)
    code, output, errors = run_cli("channel-harness", "report", *files, *target, "-o", tmp_path / "out", "--json")
    assert code == 0 and "report.json in" in errors
    found = json.loads(output)
    assert found == json.loads((tmp_path / "out" / "report.json").read_text())
    methods = [row for row in found["comparison"]["rows"] if row["kind"] == "method"]
    assert {row["name"]: len(row["rankings"]) for row in methods} == {"good": 2, "other name": 1}
    assert found["budgets"] == [SPACE.flops().max() / 2]
    code, output, _ = run_cli("channel-harness", "report", *files, *target)
    assert code == 0 and "differences of Kendall, paired" in output and "noise ceiling" in output
    assert "one supernet only, so that intervals say nothing of other seeds: other name" in output
    assert "two supernets only, so that intervals reach 12.7 standard errors each way: good" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["=x.csv"], "is neither a file nor NAME=FILE: give the name and the file"),
        (["nothing.csv"], "'nothing.csv' does not exist"),
        (["FILE", "FILE"], "two rankings of 'good' have seed 1"),
        (["FILE", "--replicates", "1"], "number of replicates is 1"),
        (["FILE", "--draws", "1"], "number of draws is 1"),
        (["FILE", "--budget", "9"], "no compared architecture costs at most 9 FLOPs"),
        (["FILE", "--budget", "much"], "--budget 'much' is not a budget"),
        (["FILE", "--form", "cubic"], "unknown additive form 'cubic'"),
        (["FILE", "--run", "9"], "run 9 is not one of"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(arguments, message, files, table, tmp_path, run_cli):
    given = [files[0] if argument == "FILE" else argument for argument in arguments]
    out = tmp_path / "out"
    code, output, errors = run_cli(
        "channel-harness", "report", *given, "--space", "resnet-mini", "--table", table.path, "-o", out, "--no-figures"
    )
    assert code == 2 and output == "" and errors.count("\n") == 1 and message in errors
    assert not out.exists() or not list(out.iterdir())


def test_a_full_disk_leaves_the_old_report(report, tmp_path, monkeypatch):
    write_report(report, tmp_path / "out", figures=False)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    other = dataclasses.replace(report, version="another")
    monkeypatch.setattr("channel_bench.support.durable.os.fsync", _full)
    with pytest.raises(StorageError, match="No space left"):
        write_report(other, tmp_path / "out", figures=False)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def _full(descriptor):
    raise OSError(28, "No space left on device")
