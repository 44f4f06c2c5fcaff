"""The page of a report: it holds the report's numbers, loads nothing, and filters by budget as Python does."""

import base64
import dataclasses
import json
import re
import sys

import numpy as np
import pytest
from browser import SHARED_BROWSER
from colours import contrast
from conftest import make_info, make_rows, write_table
from scipy.stats import rankdata

import channel_bench as cb
from channel_bench.errors import MissingPackageError
from channel_bench.support import page as common_module
from channel_bench.support.terminal import parse_quantity
from channel_bench.table import Table
from harness.judge.baselines import BASELINES
from harness.judge.verdict import make_report
from harness.report import page as page_module
from harness.report.page import report_page
from harness.report.sheets import Sheet, seen_runs
from harness.report.verdict_sheets import p_text, report_sheets, verdict_sheet
from harness.scores import make_scores
from harness.stats.metrics import kendall, regrets

pytestmark = SHARED_BROWSER  # and one making of the pages serves all
NUISANCE = "</script><b>{{style}} & 'so' %{x}, as long as names are that nobody thought about"
KNOWN = cb.get_space("resnet-mini").text(9999)
MANY = [f"m{number}" for number in range(7)]


def embedded(page: str) -> dict:
    """The data of a page, arrays unpacked."""
    (text,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)
    data = json.loads(text)
    for name, array in data["arrays"].items():
        data["arrays"][name] = np.frombuffer(base64.b64decode(array["base64"]), array["dtype"])
    return data


# -- reports and their pages -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table():
    return cb.load("resnet-mini")


@pytest.fixture(scope="module")
def full(table):
    """A third of the architectures; a method of three seeds, one of many ties and a bad name, a constant one."""
    truth, rng = table.accuracies(), np.random.default_rng(0)
    some = np.arange(0, 16384, 3)

    def scored(name, values, **facts):
        return make_scores(name, table.space, some, values[some], facts)

    return make_report(
        [
            *(scored("bcnet", truth + rng.normal(0, 1.5, 16384), seed=seed, dataset="digits") for seed in range(3)),
            scored(NUISANCE, np.round((truth + rng.normal(0, 4, 16384)) / 3)),
            scored("constant", np.ones(16384)),
        ],
        table,
        num_replicates=6,
        num_draws=None,
    )


@pytest.fixture(scope="module")
def small_table(tmp_path_factory):
    """64 architectures with single runs."""
    space = cb.get_space("resnet")
    path = write_table(tmp_path_factory.mktemp("small") / "t.parquet", make_rows(space, 64, 1), make_info(space))
    return Table.read(path)


@pytest.fixture(scope="module")
def small(small_table):
    """Methods that score half of 64 architectures; no intervals."""
    indices = np.flatnonzero(np.isfinite(small_table.accuracies()))[::2]
    rng = np.random.default_rng(1)
    rankings = [make_scores(name, small_table.space, indices, rng.normal(size=32)) for name in MANY]
    return make_report(rankings, small_table, num_replicates=0, num_draws=None)


FURTHER = Sheet("experiment seeds: what <the> papers say", ["claim"], [["seeds matter"]])


@pytest.fixture(scope="module")
def pages(tmp_path_factory, full, small):
    """Pages of both, as files."""
    folder = tmp_path_factory.mktemp("pages")
    paths = {"full": folder / "full.html", "small": folder / "small.html"}
    paths["full"].write_text(report_page(full), encoding="utf-8")
    paths["small"].write_text(report_page(small, [FURTHER]), encoding="utf-8")
    return paths


@pytest.mark.parametrize("name", ["full", "small"])
def test_the_page_holds_the_numbers_of_the_report(name, pages, request):
    report = request.getfixturevalue(name)
    data = embedded(pages[name].read_text())
    arrays, both = data["arrays"], report.arrays.compared
    np.testing.assert_array_equal(arrays["index"], np.flatnonzero(both))
    np.testing.assert_array_equal(arrays["truth"], report.arrays.truth[both])
    np.testing.assert_array_equal(arrays["rounded"] / 1e4, report.arrays.truth[both].round(4))
    np.testing.assert_array_equal(arrays["flops"], report.arrays.space.flops()[both])
    np.testing.assert_array_equal(arrays["params"], report.arrays.space.params()[both])
    np.testing.assert_allclose(arrays["std"], report.arrays.stds[both], rtol=1e-6)
    for number, row in enumerate(report.comparison.rows):
        np.testing.assert_array_equal(arrays[f"scores_{number}"], report.arrays.scores[row.name][both])
    sheet = verdict_sheet(report)
    assert (data["columns"], data["lines"], data["notes"]) == (sheet.columns, sheet.rows, sheet.notes)


def test_intervals_seeds_and_diagnoses_are_those_of_the_report(pages, full):
    data = embedded(pages["full"].read_text())
    for row, shown in zip(full.comparison.rows, data["rows"], strict=True):
        detail = full.detail(row.name)
        assert (shown["name"], shown["kind"], shown["seed"]) == (row.name, row.kind, detail.seed)
        assert shown["seeds"] == [
            [each.seed, None if np.isnan(each.kendall) else each.kendall] for each in row.rankings
        ]
        if row.name == "constant":
            assert shown["kendall"] is shown["low"] is shown["effects"] is None
            continue
        interval = full.interval(row.name)
        assert (shown["kendall"], shown["low"], shown["high"]) == (row.kendall, interval.low, interval.high)
        found = detail.diagnosis
        assert shown["effects"] == found.effects.scores.tolist() and data["effects"] == found.effects.truth.tolist()
        for name, expected in {
            "along": {"flops": found.along.middle, "kendall": found.along.kendall},
            "calibration": {each: getattr(found.calibration, each) for each in ("predicted", "mean", "low", "high")},
        }.items():
            for each, values in expected.items():
                np.testing.assert_array_equal(np.array(shown[name][each], float), values)
    assert data["ceiling"] == full.comparison.ceiling.kendall


def test_the_verdict_is_in_words_with_its_test_and_its_ceiling(pages, full):
    said = embedded(pages["full"].read_text())
    best, free = full.comparison.rows[0], full.comparison.best_baseline
    pair = full.paired(best.name, free.name)
    interval, ends = full.interval("bcnet"), pair.difference.interval
    assert best.name == "bcnet" and ends.low > 0 and pair.p_adjusted < 0.05  # or the words below are others
    assert said["verdict"] == (
        f"Best of 3 methods: bcnet, Kendall {best.kendall:.3f}"
        f" (95% interval {interval.low:.3f} to {interval.high:.3f}),"
        f" {best.of_ceiling.kendall:.0%} of the noise ceiling."
        f" It beats the best free baseline, {free.name} ({free.kendall:.3f}):"
        f" difference {best.kendall - free.kendall:+.3f}"
        f" (95% interval {ends.low:+.3f} to {ends.high:+.3f}), paired p {p_text(pair.difference.p_value)},"
        f" adjusted for the {2 * 3 - 1} comparisons of the report {p_text(pair.p_adjusted)}."
    )
    assert f"Kendall {full.comparison.ceiling.kendall:.3f}" in said["noise"]
    assert "table digits-16384x3" in said["about"] and "n = 5,462 architectures" in said["about"]
    facts = dict(said["provenance"])
    assert facts["Content SHA-256"] == full.table_sha256 and "6 replicates" in facts["Intervals"]


@pytest.mark.parametrize(
    ("p", "kendall", "words"),
    [
        (0.3, 0.99, "It cannot be told apart from"),
        (0.01, 0.1, "It is below the best"),
        (0.01, 0.99, "It beats the"),
    ],
)
def test_a_difference_that_is_not_clear_is_not_called_one(p, kendall, words, full):
    free = full.comparison.best_baseline.name
    rows = [dataclasses.replace(full.comparison.rows[0], kendall=kendall), *full.comparison.rows[1:]]
    pairs = [
        dataclasses.replace(each, p_adjusted=p) if (each.first, each.second) == ("bcnet", free) else each
        for each in full.differences
    ]
    assert pairs != full.differences
    report = dataclasses.replace(full, comparison=dataclasses.replace(full.comparison, rows=rows), differences=pairs)
    assert words in embedded(report_page(report))["verdict"]


def test_what_must_not_be_overlooked_stands_at_the_head(pages, full, small):
    data = embedded(pages["small"].read_text())
    assert data["warnings"] == [
        "Only 32 of the table's 64 architectures are compared: not all have all scores"
    ] and data["noise"].startswith("The noise ceiling is unknown")
    assert "untested." in data["verdict"] and "interval" not in data["verdict"]
    free = max(small.comparison.baselines, key=lambda row: row.kendall).name
    shown = [data["rows"][number]["name"] for number in data["shown"]]
    assert shown == [*names(small)[:6], *dict.fromkeys(["flops", free])]
    seen = [note for row in full.comparison.methods for note in seen_runs(row)]
    above = [note for note in verdict_sheet(full).notes if "above the ceiling" in note]
    few = "Only 5,462 of the table's 16,384 architectures are compared: not all have all scores"
    assert embedded(pages["full"].read_text())["warnings"] == [*seen, *above, few]


def test_baselines_alone_and_constant_methods_have_a_page(small_table):
    alone = make_report({}, small_table, num_replicates=0, num_draws=None)
    data = embedded(report_page(alone))
    best = max(alone.comparison.rows, key=lambda row: row.kendall)
    assert data["verdict"] == (
        f"No method is judged here: of the free baselines {best.name} is best, Kendall {best.kendall:.3f}."
    )
    assert data["shown"] == list(range(len(BASELINES)))
    indices = np.flatnonzero(np.isfinite(small_table.accuracies()))
    constant = make_scores("constant", small_table.space, indices, np.zeros(64))
    report = make_report([constant], small_table, num_replicates=0, num_draws=None)
    assert embedded(report_page(report))["verdict"].startswith("No method is best: Kendall is defined for none")


def test_without_plotly_the_extra_is_named(full, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(MissingPackageError, match=r"needs plotly \(.*\): pip install 'channel-bench\[report\]'"):
        report_page(full)


def test_a_name_cannot_break_out_of_the_page(pages):
    page = pages["full"].read_text()
    markup = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)  # plotly.js has markup in its texts
    assert len(re.findall("<script", markup)) == len(re.findall("</script>", markup)) == 1
    assert "<b>" not in markup and NUISANCE in [row["name"] for row in embedded(page)["rows"]]
    assert "default-src 'none'" in page and "unsafe-eval" not in markup
    assert not re.search(r"""\bsrc=|\bhref=|<link|<iframe|<img|url\(|@import""", markup)


def test_lines_stand_out_in_both_themes():
    """WCAG 2.1: 3 to 1 for what is drawn."""
    common, own = (
        [dict(re.findall(r"--(\w+): (#\w{6});", block)) for block in re.findall(r"{(.*?)}", text, re.DOTALL)[:2]]
        for text in (common_module.common_parts()["common_style"], (page_module.PAGES / "report.css").read_text())
    )
    for theme, lines in zip(common, own, strict=True):
        assert set(lines) == {"free", *(f"row{number}" for number in range(9))}
        assert min(contrast(colour, theme["page"]) for colour in lines.values()) >= 3


# -- in a browser ----------------------------------------------------------------------------------------------------


def change(browser, identifier, value):
    """Choose or type a value."""
    kind = "change" if identifier in ("method", "across", "against") else "input"
    browser.run(
        f"(() => {{ const x = document.getElementById('{identifier}'); x.value = {json.dumps(str(value))};"
        f" x.dispatchEvent(new Event('{kind}', {{bubbles: true}})) }})()"
    )


def rows_of(browser, table):
    """Texts and values of a table's body, by what stands in the first column."""
    lines = browser.run(
        f"[...document.querySelectorAll('#{table} tbody tr')].map(r => [...r.cells].map("
        "c => [c.textContent, c.dataset.value === undefined ? null : c.dataset.value]))"
    )
    return {
        line[0][0]: ([text for text, _ in line], [None if v is None else float(v) for _, v in line]) for line in lines
    }


def facts(browser):
    """What the page says of the architecture pointed at, or kept."""
    terms = browser.run(
        "[...document.querySelectorAll('#facts dt')].map(x => [x.textContent, x.nextSibling.textContent])"
    )
    return {"arch": browser.run("document.getElementById('arch').value"), **dict(terms)}


def names(report):
    return [row.name for row in report.comparison.rows]


def ranks_of(values):
    """1 + the number of higher values."""
    return rankdata(-values, method="min").astype(int)


def ranks_by(report, name):
    """Rank of every compared architecture, 1 the best."""
    return ranks_of(report.arrays.scores[name][report.arrays.compared])


def place_of(report, arch):
    """Position of an architecture among those compared."""
    return int(np.searchsorted(np.flatnonzero(report.arrays.compared), report.arrays.space.index(arch)))


def expected_facts(report, arch):
    arrays = report.arrays
    index, place = arrays.space.index(arch), place_of(report, arch)
    widest = {"FLOPs": int(arrays.space.flops().max()), "Parameters": int(arrays.space.params().max())}
    costs = {"FLOPs": arrays.space.flops(arch), "Parameters": arrays.space.params(arch)}
    return {
        "arch": arch,
        "Channels": ", ".join(map(str, arrays.space.channels(arch))),
        "Accuracy": f"{arrays.truth[index]:.3f}% ± {arrays.stds[index]:.2f}",
        **{name: f"{cost:,} ({cost / widest[name]:.3f}x)" for name, cost in costs.items()},
        "True rank": f"{ranks_of(arrays.truth[arrays.compared].round(4))[place]:,} of {arrays.compared.sum():,}",
        **{f"by {name}": f"{ranks_by(report, name)[place]:,}" for name in ("bcnet", NUISANCE, "flops")},
    }


@pytest.mark.parametrize("name", ["full", "small"])
def test_the_page_opens_with_the_tables_and_without_a_complaint(name, browser, pages, request):
    report = request.getfixturevalue(name)
    browser.open(pages[name])
    shown = rows_of(browser, "compare")
    assert [texts for texts, _ in shown.values()] == verdict_sheet(report).rows[: len(shown)]
    foot = browser.run(
        "[...document.querySelectorAll('#compare tfoot tr')].map(r => [...r.cells].map(c => c.textContent))"
    )
    assert foot == verdict_sheet(report).rows[len(shown) :]
    titles = browser.run("[...document.querySelectorAll('details figcaption')].map(x => x.textContent)")
    further = [FURTHER.title] if name == "small" else []
    assert titles == [*(sheet.title for sheet in report_sheets(report)[1:]), "score files", *further]
    drawn = {
        figure: browser.run(f"document.querySelectorAll('#{figure} .trace').length")
        for figure in ("forest", "effects", "calibration", "along")
    }
    assert drawn["forest"] and drawn["calibration"] and (drawn["effects"] and drawn["along"] or name == "small")
    if name == "small":
        change(browser, "arch", "4344424")
        assert browser.text("#arch-error") == "4344424 is not among those compared."
    assert browser.complaints() == [] and browser.requests() == {pages[name].as_uri()}


BUDGETS = [("", ""), ("0.5x", ""), ("", "8.5k"), ("0.3x", "0.45x"), ("9.5k", ""), ("CHEAPEST", "")]


def test_within_a_budget_the_page_computes_what_python_does(browser, pages, full):
    browser.open(pages["full"])
    arrays = full.arrays
    flops, params = arrays.space.flops().astype(float), arrays.space.params().astype(float)
    cheapest = repr(float(flops[arrays.compared].min()))
    both = arrays.compared
    everywhere = {name: kendall(arrays.scores[name][both], arrays.truth[both]) for name in names(full)}
    sizes = []
    for max_flops, max_params in BUDGETS:
        max_flops = max_flops.replace("CHEAPEST", cheapest)
        change(browser, "max-flops", max_flops)
        change(browser, "max-params", max_params)
        fits = arrays.compared.copy()
        for text, costs in ((max_flops, flops), (max_params, params)):
            fits &= costs <= (parse_quantity(text, costs.max(), "budget") if text else np.inf)
        sizes.append(int(fits.sum()))
        truth = arrays.truth[fits]
        rounded = truth.round(4)
        shown = rows_of(browser, "within")
        assert list(shown) == names(full)
        for name, (texts, values) in shown.items():
            scores = arrays.scores[name][fits]
            tau = kendall(scores, truth) if fits.sum() > 1 else np.nan
            assert values[3] == pytest.approx(tau, abs=1e-12, nan_ok=True)
            assert texts[3] == ("undefined" if np.isnan(tau) else f"{tau:.3f}")
            assert values[2] == pytest.approx(everywhere[name], abs=1e-12, nan_ok=True)
            chosen = np.flatnonzero(scores == scores.max())
            arch = arrays.space.text(int(np.flatnonzero(fits)[chosen[0]]))
            assert texts[4] == arch + (f" ({len(chosen):,} tied, mean)" if len(chosen) > 1 else "")
            best = float(rounded.max())
            accuracy = float(rounded[chosen].mean())
            assert values[5] == pytest.approx(accuracy, abs=1e-9)
            assert values[6] == pytest.approx(ranks_of(rounded)[chosen].mean(), rel=1e-12)
            assert values[7] == pytest.approx(best - accuracy, abs=1e-9)
            if fits.sum() > 1 and not max_params:
                budget = [flops[fits].max()]
                (found,) = regrets(arrays.scores[name][both], arrays.truth[both].round(4), flops[both], budget)
                assert values[7] == pytest.approx(found.regret, abs=1e-9)
        note = browser.text("#within-note")
        assert arrays.space.text(int(np.flatnonzero(fits)[rounded.argmax()])) in note
    assert sizes[0] == 5462 and 100 < sizes[3] < sizes[1] < 5462 and sizes[-1] == 1
    assert browser.complaints() == []


def test_the_choices_within_default_budgets_are_those_of_the_report(browser, pages, full):
    browser.open(pages["full"])
    for number, budget in enumerate(full.budgets):
        change(browser, "max-flops", repr(budget))
        shown = rows_of(browser, "within")
        for name in (NUISANCE, "flops", "min-width"):  # the others have several seeds, of which the page shows one
            pick, (texts, values) = full.detail(name).picks[number], shown[name]
            assert texts[4].split()[0] == pick.archs[0]
            assert values[5:8:2] == pytest.approx([pick.accuracy, pick.regret], abs=1e-9)


def test_wrong_and_impossible_budgets_are_said(browser, pages, full):
    browser.open(pages["full"])
    for text in ("lots", "-5M", "0", "1e9x9", "5m"):
        change(browser, "max-flops", text)
        assert browser.text("#budget-state") == f'"{text}" is not a budget; it is left out'
        assert browser.run("document.getElementById('max-flops').getAttribute('aria-invalid')") == "true"
    change(browser, "max-flops", "1")
    assert browser.text("#budget-state") == "No architecture keeps to this budget."
    shown = rows_of(browser, "within")
    assert all(texts[3:] == ["undefined", "-", "-", "-", "-"] for texts, _ in shown.values())
    change(browser, "max-flops", "0.5x")
    flops = full.arrays.space.flops()
    num = (flops[full.arrays.compared] <= 0.5 * flops.max()).sum()
    assert browser.text("#budget-state") == f"{num:,} of 5,462 architectures keep to the budget."
    change(browser, "max-flops", "")
    assert browser.text("#budget-state") == "" and browser.complaints() == []


def test_tables_are_sorted_by_a_click_on_a_column(browser, pages, full):
    browser.open(pages["full"])

    def click(column):
        browser.run(
            f"[...document.querySelectorAll('#compare thead button')].find(x => x.textContent === '{column}').click()"
        )
        return list(rows_of(browser, "compare"))

    order = sorted(full.comparison.rows, key=lambda row: -np.nan_to_num(row.pearson, nan=-9))
    assert click("Pearson") == [row.name for row in order]
    assert browser.run("document.querySelector('#compare [aria-sort]').textContent") == "Pearson"
    rising = click("Pearson")
    assert rising[:-1] == [row.name for row in order[:-1]][::-1] and rising[-1] == "constant"  # undefined, so last
    assert click("scores")[0] == NUISANCE and click("scores")[-1] == NUISANCE  # punctuation before letters
    assert browser.run("document.querySelector('#compare tfoot').textContent").startswith("noise ceiling")


def test_a_tick_decides_what_the_plots_show(browser, pages, full):
    browser.open(pages["full"])

    def legend():
        return browser.run("[...document.querySelectorAll('#legend li')].map(x => x.textContent)")

    free = [row.name for row in full.comparison.baselines if row.name in ("flops", full.comparison.best_baseline.name)]
    assert legend() == ["truth", "bcnet", NUISANCE, "constant", *free]
    ticked = browser.run("[...document.querySelectorAll('#forest .ytick text')].map(x => x.textContent)")
    assert ticked[0] == "bcnet" and "flops (free)" in ticked and any(name.startswith("</script><b>") for name in ticked)
    browser.run(f"document.getElementById('show-{names(full).index('params')}').click()")
    browser.run("document.getElementById('show-0').click()")
    order = [row.name for row in full.comparison.baselines if row.name in (*free, "params")]
    assert legend() == ["truth", NUISANCE, "constant", *order]
    assert "by params" in facts(browser) and "by bcnet" not in facts(browser)
    assert browser.complaints() == []


def scatter_box(browser):
    """Left, top, width and height of the scatter, in pixels of the window."""
    return browser.run(
        "(() => { const box = document.getElementById('scatter'); box.scrollIntoView();"
        " const at = box.getBoundingClientRect(); return [at.left, at.top, at.width, at.height] })()"
    )


def test_a_point_is_explained_under_the_pointer_and_kept_by_a_click(browser, pages, full):
    browser.open(pages["full"])
    left, top, width, height = scatter_box(browser)
    at = {"x": left + 0.6 * width, "y": top + 0.4 * height}
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", **at)
    arch = facts(browser)["arch"]
    expected = expected_facts(full, arch)
    assert expected.items() <= facts(browser).items()
    assert browser.text("#tip") == f"{arch}  {expected['Accuracy']}"
    for kind in ("mousePressed", "mouseReleased"):
        browser.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **at)
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=left + 1, y=top + 1)
    assert browser.run("document.getElementById('tip').hidden") and facts(browser)["arch"] == arch
    change(browser, "arch", KNOWN)
    assert expected_facts(full, KNOWN).items() <= facts(browser).items()
    change(browser, "arch", "4142435")
    assert "Seven digits 1 to 4" in browser.text("#arch-error")
    assert browser.complaints() == []


@pytest.mark.parametrize("width, ways", [(390, [("score", -1)]), (1280, [("score", -1), ("rank", -1), ("score", 1)])])
def test_points_lie_where_their_numbers_say(width, ways, browser, pages, full):
    """Where the pointer is against what it finds there: straight lines, over the whole plot."""
    browser.open(pages["full"], width=width)
    left, top, plot_width, plot_height = scatter_box(browser)
    method, both = names(full)[0], full.arrays.compared
    pointers = [(x * plot_width, y * plot_height) for x in np.linspace(0.2, 0.9, 8) for y in np.linspace(0.15, 0.8, 6)]
    point = (
        "((x, y) => { document.getElementById('scatter').dispatchEvent(new PointerEvent('pointermove',"
        f" {{pointerType: 'mouse', clientX: {left} + x, clientY: {top} + y}}));"
        " return document.getElementById('tip').hidden ? '' : tip.textContent.slice(0, 7) })"
    )
    for across, against in ways:
        change(browser, "across", across)
        change(browser, "against", against)
        assert browser.run("document.getElementById('across').disabled") == (against >= 0)
        by_rank = across == "rank" or against >= 0
        xs = ranks_by(full, method) if by_rank else full.arrays.scores[method][both]
        ys = ranks_by(full, names(full)[against]) if against >= 0 else full.arrays.truth[both]
        archs = browser.run(f"{json.dumps(pointers)}.map(([x, y]) => {point}(x, y))")
        found = [
            (x, y, xs[place_of(full, arch)], ys[place_of(full, arch)])
            for (x, y), arch in zip(pointers, archs, strict=True)
            if arch
        ]
        assert len(found) > 8
        x, y, across_values, up_values = np.array(found, float).T
        for pixels, values, everything, extent in (
            (x, across_values, xs, -plot_width if by_rank else plot_width),
            (y, up_values, ys, plot_height if against >= 0 else -plot_height),
        ):
            slope, offset = np.polyfit(values, pixels, 1)
            assert np.abs(slope * values + offset - pixels).max() < 32
            assert 0.6 < slope * (everything.max() - everything.min()) / extent < 1
    assert browser.complaints() == []


def test_a_zoom_moves_the_points_and_is_undone(browser, pages, full):
    browser.open(pages["full"])
    left, top, width, height = scatter_box(browser)
    at = {"x": left + 0.5 * width, "y": top + 0.45 * height}

    def found():
        browser.call("Input.dispatchMouseEvent", type="mouseMoved", **at)
        return facts(browser)["arch"]

    def drag(x, y, to_x, to_y):
        for kind, px, py in (
            ("mousePressed", x, y),
            ("mouseMoved", (x + to_x) / 2, (y + to_y) / 2),
            ("mouseMoved", to_x, to_y),
            ("mouseReleased", to_x, to_y),
        ):
            browser.call(
                "Input.dispatchMouseEvent",
                type=kind,
                button="left",
                buttons=1,
                clickCount=1,
                x=left + px * width,
                y=top + py * height,
            )

    before = found()
    drag(0.55, 0.15, 0.85, 0.35)
    browser.run("new Promise(done => setTimeout(done, 100))")
    after = found()
    truth = full.arrays.truth[full.arrays.space.index([before, after])]
    assert truth[1] > truth[0] + 1  # the window is now what was the best corner
    browser.run("document.querySelector('#axes [data-title=\"Show all\"]').dispatchEvent(new Event('click'))")
    assert found() == before and browser.complaints() == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_theme_follows_the_system_until_it_is_switched(dark, browser, pages):
    browser.open(pages["small"], dark=dark)
    look = (
        "[getComputedStyle(document.body).backgroundColor,"
        " getComputedStyle(document.querySelector('#forest .xtick text')).fill]"
    )
    seen = [browser.run(look)]
    browser.run("document.getElementById('theme').click()")
    seen.append(browser.run(look))
    light_first = [["rgb(255, 255, 255)", "rgb(27, 31, 36)"], ["rgb(18, 22, 27)", "rgb(232, 237, 242)"]]
    assert seen == (light_first[::-1] if dark else light_first)
    assert browser.complaints() == []


def test_a_phone_has_all_of_it_and_every_control_has_a_name_and_the_keyboard(browser, pages):
    browser.open(pages["full"], width=390, height=844, dark=True)
    browser.run("document.querySelectorAll('details').forEach(x => x.open = true)")
    assert browser.run("document.documentElement.scrollWidth") == 390
    figures = browser.run(
        "[...document.querySelectorAll('.figure svg.main-svg')].map(x => x.getBoundingClientRect().right)"
    )
    assert len(figures) >= 4 and max(figures) <= 390
    narrowest = "Math.min(...[...document.querySelectorAll('#facts dd')].map(x => x.getBoundingClientRect().width))"
    assert browser.run(narrowest) > 120  # a long name leaves room for the numbers
    labels = browser.run(
        "[...document.querySelectorAll('input, select, button')]"
        ".map(x => x.ariaLabel ?? (x.labels?.[0] ?? x).textContent.trim())"
    )
    assert all(labels)
    reached = set()
    for _ in range(60):
        browser.press("Tab")
        reached.add(browser.run("document.activeElement.id"))
    controls = {"theme", "show-0", "method", "across", "against", "max-flops", "max-params", "arch"}
    assert controls <= reached and browser.complaints() == []


def test_further_tables_stand_folded_below_the_report_s_own(pages):
    text = pages["small"].read_text()
    assert "<summary>Experiment seeds: what &lt;the&gt; papers say</summary>" in text and "seeds matter" in text
    assert "Experiment seeds" not in pages["full"].read_text()
