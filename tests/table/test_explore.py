"""The explorer page: its data are the table's, it loads nothing, and in a browser it shows what `Table` says."""

import base64
import json
import re
import zlib

import numpy as np
import pandas as pd
import pytest
from browser import SHARED_BROWSER
from colours import contrast
from conftest import make_info, make_record, make_rows, write_table
from PIL import Image

import channel_bench as cb
from channel_bench.builder.collect import collect
from channel_bench.builder.store import RunStore
from channel_bench.errors import ArgumentError, CorruptFileError, MissingDataError
from channel_bench.recipe import get_recipe
from channel_bench.support.page import common_parts
from channel_bench.support.terminal import parse_quantity
from channel_bench.table import Table, explore

pytestmark = SHARED_BROWSER  # and one making of the pages serves all
MIB = 2**20


def embedded(page: str) -> dict:
    """The data of a page, arrays unpacked."""
    (text,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)
    data = json.loads(text)
    for name, array in data["arrays"].items():
        data["arrays"][name] = np.frombuffer(base64.b64decode(array["base64"]), array["dtype"])
    data["arrays"]["runs"] = data["arrays"]["runs"].reshape(-1, data["num_runs"])
    if data["curves"]:
        steps = np.frombuffer(zlib.decompress(base64.b64decode(data["curves"]["base64"])), data["curves"]["dtype"])
        curves = np.where(steps == data["curves"]["missing"], np.nan, steps * data["curves"]["unit"])
        data["curves"] = curves.reshape(data["curves"]["shape"])
    return data


# -- tables and their pages ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("explore")


@pytest.fixture(scope="module")
def partial(folder):
    """A table of 64 architectures of resnet and up to 3 runs: one has two, one has one; its name is a nuisance."""
    space = cb.get_space("resnet")
    rows = [row for row in make_rows(space, 64, 3) if (row["arch"], row["run"]) != (space.text(256), 1)]
    rows = [row for row in rows if row["arch"] != space.text(512) or row["run"] == 2]
    info = make_info(space, name="</script><b>{{style}}", dataset="cifar10")
    return Table.read(write_table(folder / "partial table.parquet", rows, info))


@pytest.fixture(scope="module")
def shipped():
    """A complete table with learning curves."""
    return cb.load("resnet-mini")


@pytest.fixture(scope="module")
def pages(folder, partial, shipped):
    """Pages of both, as files."""
    paths = {"partial": folder / "partial.html", "shipped": folder / "shipped.html"}
    explore.write_explorer(partial, paths["partial"])
    explore.write_explorer(shipped, paths["shipped"])
    return paths


@pytest.mark.parametrize("name", ["partial", "shipped"])
def test_the_page_holds_the_numbers_of_the_table(name, pages, request):
    table = request.getfixturevalue(name)
    data = embedded(pages[name].read_text())
    arrays, frame = data["arrays"], table.frame()
    trained = table.space.index(frame["arch"].tolist())
    np.testing.assert_array_equal(arrays["runs"], table.cells())
    np.testing.assert_array_equal(arrays["mean"], table.accuracies())
    np.testing.assert_array_equal(arrays["flops"], table.space.flops())
    np.testing.assert_array_equal(arrays["params"], table.space.params())
    np.testing.assert_allclose(arrays["std"], table.stds(), rtol=1e-9)
    np.testing.assert_array_equal(arrays["rank"][trained], frame["rank"])
    assert (arrays["rank"] > 0).sum() == len(frame) == data["num_ranked"] == len(table)
    assert [slot["channels"][-1] for slot in data["slots"]] == list(table.space.max_channels)
    assert [slot["channels"][0] for slot in data["slots"]] == list(table.space.channels("1111111"))


def test_the_page_says_which_accuracy_which_table_and_how_noisy(pages, partial):
    data = embedded(pages["partial"].read_text())
    said = dict(data["provenance"])
    assert said["Accuracy"] == f"best_test_acc: {partial.meaning()}" and partial.meaning() in data["about"]
    assert (said["Table"], said["Content SHA-256"]) == (partial.name, partial.info.content_sha256)
    assert said["Runs"] == f"{64 * 3 - 3}, at most 3 of an architecture"
    rows = partial.arrow.to_pandas()
    groups = rows.groupby("arch")["best_test_acc"]
    deviations = rows["best_test_acc"] - groups.transform("mean")
    degrees = (groups.count() - 1).clip(lower=0).sum()
    assert data["run_std"] == pytest.approx((deviations.pow(2).sum() / degrees) ** 0.5)
    needed = 1.96 * data["run_std"] * (2 / 3) ** 0.5
    means = pd.Series(partial.accuracies())
    assert f"{data['run_std']:.2f} points" in data["noise"] and f"less than {needed:.2f} points" in data["noise"]
    assert f"{(means >= means.max() - needed).sum()} architectures are that close" in data["noise"]


def test_a_table_of_single_runs_cannot_say_how_noisy_it_is(tmp_path):
    space = cb.get_space("mobilenet")
    table = Table.read(write_table(tmp_path / "t.parquet", make_rows(space, 8, 1), make_info(space)))
    data = embedded(explore.explorer_page(table, "test_acc"))
    assert data["run_std"] is None and "cannot say how noisy" in data["noise"]
    assert np.isnan(data["arrays"]["std"]).all() and data["metric"] == "test_acc"
    np.testing.assert_array_equal(data["arrays"]["mean"], table.accuracies(metric="test_acc"))
    assert data["code"] == 'cb.load("mobilenet", table="t.parquet").query("ARCH", metric="test_acc")'


def test_the_line_to_copy_loads_what_the_page_shows(pages, partial, monkeypatch):
    monkeypatch.chdir(partial.path.parent)
    for name in ("partial", "shipped"):
        data = embedded(pages[name].read_text())
        result = eval(data["code"].replace("ARCH", "1111111"), {"cb": cb})
        assert result.mean == data["arrays"]["mean"][0]
    assert data["code"] == 'cb.load("resnet-mini").query("ARCH")'


def test_learning_curves_are_those_of_the_table_to_half_a_step(pages, shipped, partial):
    data = embedded(pages["shipped"].read_text())
    _, curves = shipped.all_curves()
    np.testing.assert_allclose(data["curves"], curves["test_acc"], atol=0.005001)
    without = embedded(pages["partial"].read_text())
    assert without["curves"] is None and without["curves_note"] == "This table has no learning curves."


@pytest.fixture
def built(tmp_path):
    """A table with curves as `collect` writes it: one architecture, of whose two runs only the second is there."""
    recipe = get_recipe("mini", epochs=2)
    store = RunStore.create(tmp_path / "runs", cb.get_space("resnet-mini"), recipe, "digits", "d1")
    store.add(make_record("4344424", 1, 60.0))
    collect(store.folder, tmp_path / "t.parquet")
    return tmp_path / "t.parquet"


def test_runs_without_curves_are_missing_in_the_page(built):
    data = embedded(explore.explorer_page(Table.read(built)))
    expected = np.full((16384, 2, 2), np.nan)
    expected[cb.get_space("resnet-mini").index("4344424"), 1] = [1, 60]
    np.testing.assert_allclose(data["curves"], expected)


def test_curves_that_make_the_page_too_large_are_left_out_and_it_says_so(pages, shipped, monkeypatch):
    assert MIB < pages["partial"].stat().st_size < 1.5 * MIB
    assert 2 * MIB < pages["shipped"].stat().st_size < explore.MAX_PAGE_BYTES
    monkeypatch.setattr(explore, "MAX_PAGE_BYTES", 2 * MIB)
    page = explore.explorer_page(shipped)
    assert len(page.encode()) < 2 * MIB
    assert embedded(page)["curves"] is None and "page would exceed 2 MiB" in embedded(page)["curves_note"]


@pytest.mark.parametrize("name", ["partial", "shipped"])
def test_the_page_refers_to_nothing_outside_itself(name, pages):
    page = pages[name].read_text()
    markup = re.sub(r'<script id="data".*?</script>', "", page, flags=re.DOTALL)
    assert not re.search(r"\b(https?|ftp|wss?)://", page)
    assert not re.search(
        r"""\bsrc=|\bhref=|<link|<iframe|<img|url\(|@import|\bimport\(|fetch\(|XMLHttp|["'`]//""", markup
    )
    assert "default-src 'none'" in markup


def test_a_name_cannot_break_out_of_the_page(pages):
    page = pages["partial"].read_text()
    assert len(re.findall("<script", page)) == len(re.findall("</script>", page)) == 2
    assert "<b>" not in page and dict(embedded(page)["provenance"])["Table"] == "</script><b>{{style}}"


def test_text_stands_out_in_both_themes():
    """WCAG 2.1: 4.5 to 1 for text, 3 to 1 for borders of controls and what is drawn."""
    style = common_parts()["common_style"]
    light, dark = (
        dict(re.findall(r"--(\w[\w-]*): (#\w{6});", block)) for block in re.findall(r"{(.*?)}", style, re.DOTALL)[:2]
    )
    assert light.keys() == dark.keys()

    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    for theme in (light, dark):
        for name in ("text", "muted", "error"):
            assert min(contrast(theme[name], theme[ground]) for ground in ("page", "panel")) >= 4.5, name
        for name in ("border", "accent", "point", "front", "chosen", "outside", "width1", "width2", "width3", "width4"):
            assert contrast(theme[name], theme["page"]) >= 3, name


# -- errors ----------------------------------------------------------------------------------------------------------


def test_bad_input_raises_and_writes_nothing(partial, pages, tmp_path):
    with pytest.raises(ArgumentError, match="page '.*page.pdf' must end in .html"):
        explore.write_explorer(partial, tmp_path / "page.pdf")
    with pytest.raises(ArgumentError, match="metric 'acc' is not one of"):
        explore.write_explorer(partial, tmp_path / "page.html", "acc")
    rows = [
        row | {"status": "diverged", "best_test_acc": None, "test_acc": None} for row in make_rows(partial.space, 2, 1)
    ]
    rows[0] |= {"test_acc": 50.0, "best_test_acc": None, "status": "ok"}
    table = Table.read(write_table(tmp_path / "t.parquet", rows, make_info(partial.space)))
    with pytest.raises(MissingDataError, match="has no best_test_acc"):
        explore.write_explorer(table, tmp_path / "page.html")
    assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]


def test_damaged_curves_are_an_error_and_missing_ones_are_not(built, tmp_path):
    built.with_suffix(".h5").write_bytes(b"x" * 100)
    with pytest.raises(CorruptFileError, match="cannot read curves"):
        explore.write_explorer(Table.read(built), tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()
    built.with_suffix(".h5").unlink()
    explore.write_explorer(Table.read(built), tmp_path / "page.html")
    assert embedded((tmp_path / "page.html").read_text())["curves"] is None


def test_the_command_writes_the_page_and_bad_input_is_one_line(partial, tmp_path, run_cli):
    page = tmp_path / "page.html"
    code, out, _ = run_cli(
        "channel-bench", "explore", "resnet", "-o", page, "--table", partial.path, "--metric", "test_acc"
    )
    assert code == 0 and re.fullmatch(rf"wrote {page}: 1.\d MiB, open it in a browser\n", out)
    assert page.read_text() == explore.explorer_page(partial, "test_acc")
    cases = [
        (["resnet", "-o", tmp_path / "p.txt", "--table", partial.path], "must end in .html"),
        (
            ["resnet", "-o", tmp_path / "p.html", "--table", partial.path, "--metric", "acc"],
            "metric 'acc' is not one of",
        ),
        (
            ["resnet-mini", "-o", tmp_path / "p.html", "--table", partial.path],
            "is of space 'resnet', not 'resnet-mini'",
        ),
        (["resnet", "-o", page / "p.html", "--table", partial.path], "page.html"),
        (["resnet", "--table", partial.path], "Missing option '--out'"),
    ]
    for arguments, message in cases:
        code, out, err = run_cli("channel-bench", "explore", *arguments)
        assert (code, out) == (2, "") and message in err and err.count("\n") == 1, err
    assert list(tmp_path.iterdir()) == [page]


# -- in a browser ----------------------------------------------------------------------------------------------------


def facts(browser):
    """What the page says of the chosen architecture."""
    terms = browser.run(
        "[...document.querySelectorAll('#facts dt')].map(x => [x.textContent, x.nextSibling.textContent])"
    )
    shown = browser.run("document.getElementById('arch').value")
    return {"arch": shown, "accuracy": browser.text("#accuracy"), **dict(terms)}


def expected_facts(table, arch):
    """What it should say."""
    result = table.query(arch)
    runs = ["missing" if accuracy is None else f"{accuracy:.2f}" for accuracy in result.accuracies]
    widest = {"FLOPs": table.space.flops("4444444"), "Parameters": table.space.params("4444444")}
    costs = {"FLOPs": result.flops, "Parameters": result.params}
    return {
        "arch": arch,
        "accuracy": f"{result.mean:.3f}%",
        "Rank": f"{result.rank:,} of {result.num_ranked:,}",
        "Runs": ", ".join(runs),
        "Std of runs": "unknown, a single run" if result.std is None else f"{result.std:.3f} points (ddof=1)",
        "Channels": ", ".join(map(str, result.channels)),
        **{name: f"{costs[name]:,} ({100 * costs[name] / widest[name]:.1f}% of widest)" for name in costs},
    }


def type_into(browser, selector, text):
    """Replace what stands in a field, key by key."""
    browser.run(f"document.querySelector({json.dumps(selector)}).select()")
    browser.call("Input.insertText", text=text) if text else browser.press("Delete")


def front_rows(browser):
    return browser.run(
        "[...document.querySelectorAll('#front-rows tr')].map(r => [...r.cells].map(c => c.textContent))"
    )


def test_the_page_opens_with_the_best_and_without_a_complaint(browser, pages, shipped):
    browser.open(pages["shipped"])
    assert expected_facts(shipped, shipped.top(1)[0].arch).items() <= facts(browser).items()
    assert browser.text("h1") == "resnet-mini: 16,384 widths"
    assert shipped.info.content_sha256 in browser.text("#provenance") and "with its own seven widths" in browser.text(
        "#about"
    )
    assert browser.complaints() == [] and browser.requests() == {pages["shipped"].as_uri()}


def test_sliders_by_keyboard_show_what_the_table_says(browser, pages, shipped):
    browser.open(pages["shipped"])
    digits = list(map(int, shipped.top(1)[0].arch))
    for slot, key in [
        (3, "ArrowLeft"),
        (0, "Home"),
        (6, "ArrowLeft"),
        (3, "ArrowLeft"),
        (0, "ArrowRight"),
        (4, "Home"),
    ]:
        browser.run(f"document.getElementById('slot-{slot}').focus()")
        browser.press(key)
        digits[slot] = {"Home": 1, "ArrowLeft": max(1, digits[slot] - 1), "ArrowRight": digits[slot] + 1}[key]
        arch = "".join(map(str, digits))
        assert expected_facts(shipped, arch).items() <= facts(browser).items()
        channels = shipped.space.channels(arch)[slot]
        assert browser.text(f"#channels-{slot}") == str(channels) == browser.text(f"#ticks-{slot} .now")
        spoken = browser.run(f"document.getElementById('slot-{slot}').getAttribute('aria-valuetext')")
        assert spoken == f"{channels} channels, digit {digits[slot]} of 4"
    assert browser.text("#code") == f'cb.load("resnet-mini").query("{arch}")'
    assert browser.complaints() == []


def test_typed_architectures_missing_ones_and_wrong_ones(browser, pages, partial):
    browser.open(pages["partial"])
    space = partial.space
    for arch in (space.text(0), space.text(256), space.text(512), space.text(5 * 256)):
        type_into(browser, "#arch", arch)
        assert expected_facts(partial, arch).items() <= facts(browser).items()
    assert facts(browser)["arch"] == space.text(5 * 256)
    type_into(browser, "#arch", "4344424")
    shown = facts(browser)
    assert shown["accuracy"] == "not in this table" and "Rank" not in shown
    assert shown["FLOPs"].startswith("1,209,734,144 (")
    type_into(browser, "#arch", "4344425")
    assert "Seven digits 1 to 4" in browser.text("#arch-error")
    assert browser.run("document.getElementById('slot-6').value") == "4"  # the last right one stays chosen
    assert browser.complaints() == []


@pytest.mark.parametrize("cost", ["flops", "params"])
def test_front_and_budget_are_those_of_the_table(cost, browser, pages, shipped):
    browser.open(pages["shipped"])
    browser.run(f"document.getElementById('axis').value = '{cost}'")
    browser.run("document.getElementById('axis').dispatchEvent(new Event('change'))")

    def rows(results):
        return [[r.arch, f"{r.mean:.3f}", f"{r.rank:,}", f"{r.flops:,}", f"{r.params:,}"] for r in results]

    assert front_rows(browser) == rows(shipped.pareto(cost))
    budgets = {"max-flops": "0.4x", "max-params": "8.5k"}
    for field, text in budgets.items():
        type_into(browser, f"#{field}", text)
    most = {
        field: parse_quantity(text, getattr(shipped.space, field[4:])("4444444"), field)
        for field, text in budgets.items()
    }
    fits = (shipped.space.flops() <= most["max-flops"]) & (shipped.space.params() <= most["max-params"])
    assert browser.text("#budget-state") == f"{fits.sum():,} of 16,384 architectures keep to the budget."
    # By definition: none within the budget has less cost and as good a mean, or as little cost and a better one.
    costs, means = getattr(shipped.space, cost)()[fits], shipped.accuracies()[fits].round(4)
    indices = np.flatnonzero(fits)[
        [
            not (((costs < c) & (means >= m)) | ((costs <= c) & (means > m))).any()
            for c, m in zip(costs, means, strict=True)
        ]
    ]
    front = sorted((shipped.query(int(index)) for index in indices), key=lambda result: getattr(result, cost))
    assert front_rows(browser) == rows(front)
    browser.run("document.getElementById('best').click()")
    best = shipped.top(1, max_flops=most["max-flops"], max_params=most["max-params"])[0].arch
    assert facts(browser)["arch"] == best and facts(browser)["Budget"] == "within"
    browser.run("document.querySelector('#front-rows button').click()")
    assert facts(browser)["arch"] == front[0].arch
    assert browser.complaints() == []


def test_wrong_and_impossible_budgets_are_said(browser, pages):
    browser.open(pages["shipped"])
    for text in ("lots", "-5M", "0", "1e9x9", "5m"):
        type_into(browser, "#max-flops", text)
        assert browser.text("#budget-state") == f'"{text}" is not a budget; it is left out'
        assert browser.run("document.getElementById('max-flops').getAttribute('aria-invalid')") == "true"
    type_into(browser, "#max-flops", "1")
    assert browser.text("#budget-state") == "No architecture keeps to this budget."
    assert browser.run("document.getElementById('best').disabled")
    type_into(browser, "#max-flops", "")
    assert browser.text("#budget-state") == "" and len(front_rows(browser)) > 5
    assert browser.complaints() == []


def plot_box(browser):
    """Left, top, width and height of the plot, in pixels of the page."""
    return browser.run(
        "(() => { const box = document.getElementById('plot').getBoundingClientRect();"
        " return [box.left, box.top, box.width, box.height] })()"
    )


def test_a_point_is_shown_under_the_pointer_and_chosen_by_a_click(browser, pages, shipped):
    browser.open(pages["shipped"])
    left, top, width, height = plot_box(browser)
    at = {"x": left + 0.3 * width, "y": top + 0.35 * height}
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", **at)
    first, second = browser.text("#tip").split("\n")
    arch, accuracy, rank = re.fullmatch(r"(\d{7})  ([\d.]+)%  rank ([\d,]+)", first).groups()
    assert (accuracy, rank) == (f"{shipped.accuracy(arch):.3f}", f"{shipped.rank(arch):,}")
    flops, params = (
        float(number) for number in re.fullmatch(r"([\d.]+)k FLOPs, ([\d.]+)k parameters", second).groups()
    )
    assert (flops, params) == pytest.approx(
        (shipped.space.flops(arch) / 1e3, shipped.space.params(arch) / 1e3), rel=0.005
    )
    for kind in ("mousePressed", "mouseReleased"):
        browser.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **at)
    assert facts(browser)["arch"] == arch
    label = browser.run("document.getElementById('points').getAttribute('aria-label')")
    assert label == f"best_test_acc against FLOPs of 16,384 architectures; chosen: {arch}, {accuracy}%"
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=1, y=1)
    assert browser.run("document.getElementById('tip').hidden")
    assert browser.complaints() == []


@pytest.mark.parametrize("width", [390, 1280])
def test_points_lie_where_their_numbers_say(width, browser, pages, shipped):
    """Where the pointer is against what it finds there: straight lines, over the whole plot."""
    browser.open(pages["shipped"], width=width)
    left, top, plot_width, plot_height = plot_box(browser)
    found = []
    for x in np.linspace(0.1, 0.9, 9) * plot_width:
        for y in np.linspace(0.05, 0.8, 5) * plot_height:
            browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=left + x, y=top + y)
            if not browser.run("document.getElementById('tip').hidden"):
                arch = browser.text("#tip")[:7]
                found.append((x, y, shipped.space.flops(arch), shipped.accuracy(arch)))
    x, y, flops, accuracy = np.array(found).T
    for pixels, values, low, high, extent in (
        (x, flops, shipped.space.flops("1111111"), shipped.space.flops("4444444"), plot_width),
        (y, accuracy, shipped.accuracies().min(), shipped.accuracies().max(), -plot_height),
    ):
        slope, offset = np.polyfit(values, pixels, 1)
        assert np.abs(slope * values + offset - pixels).max() < 32
        assert 0.75 < slope * (high - low) / extent < 1
    assert len(found) > 12 and browser.complaints() == []


def test_learning_curves_name_the_best_epoch_of_each_run(browser, pages, shipped, partial):
    browser.open(pages["shipped"])
    arch = shipped.top(1)[0].arch
    shown = browser.run(
        "new Promise(done => { const look = () => { const items = [...document.querySelectorAll('#curves-legend li')];"
        " items.length ? done(items.map(x => x.textContent)) : setTimeout(look, 20) }; look() })"
    )
    curves = shipped.curves(arch)["test_acc"]
    for run, (line, text) in enumerate(zip(curves, shown, strict=True)):
        best = f"best {shipped.accuracy(arch, run=run):.2f} in epoch {line.argmax() + 1}, last {line[-1]:.2f}"
        assert text.startswith(f"run {run} (") and text.endswith(best)
    browser.open(pages["partial"])
    assert browser.text("h1") == "resnet: 64 of 16,384 widths"
    assert browser.text("#curves-note") == "This table has no learning curves."
    assert browser.complaints() == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_theme_follows_the_system_until_it_is_switched(dark, browser, pages):
    browser.open(pages["partial"], dark=dark)
    colours = [browser.run("getComputedStyle(document.body).backgroundColor")]
    browser.run("document.getElementById('theme').click()")
    colours.append(browser.run("getComputedStyle(document.body).backgroundColor"))
    light_first = ["rgb(255, 255, 255)", "rgb(18, 22, 27)"]
    assert colours == (light_first[::-1] if dark else light_first)
    assert browser.text("#theme") == ("Dark theme" if dark else "Light theme")
    assert browser.complaints() == []


def test_a_phone_has_all_of_it_and_every_control_has_a_name_and_the_keyboard(browser, pages):
    browser.open(pages["shipped"], width=390, height=844)
    assert browser.run("document.documentElement.scrollWidth") == 390
    assert browser.run("document.getElementById('plot').getBoundingClientRect().bottom") < 844  # the plot is in view
    names = browser.run(
        "[...document.querySelectorAll('input, select, button')].map(x => (x.labels?.[0] ?? x).textContent.trim())"
    )
    assert all(names) and sum(name.startswith("Slot ") for name in names) == 7
    reached = set()
    for _ in range(40):
        browser.press("Tab")
        reached.add(browser.run("document.activeElement.id"))
    controls = {"theme", "axis", "colour", "max-flops", "max-params", "best", "arch", "copy", "front-title"}
    assert controls | {f"slot-{slot}" for slot in range(7)} <= reached
    assert browser.complaints() == []


def test_a_picture_shows_the_window_or_the_whole_page(browser, pages, tmp_path):
    browser.open(pages["partial"], width=800, height=300)
    width, height = browser.run("[document.documentElement.clientWidth, document.documentElement.scrollHeight]")
    for full_page, size in ((False, (800, 300)), (True, (width, height))):  # only the window has a scroll bar
        browser.screenshot(tmp_path / "page.png", full_page)
        with Image.open(tmp_path / "page.png") as picture:
            assert picture.size == size
            lowest = picture.crop((0, size[1] - 300, *size)).convert("RGB").getcolors(2**20)
            assert len(lowest) > 10  # text and lines, also where the window does not reach
    assert height > 600 and browser.run("innerHeight") == 300


def test_the_line_is_copied(browser, pages):
    browser.open(pages["shipped"])
    browser.run("document.getElementById('copy').focus()")
    browser.run("document.addEventListener('copy', () => { window.copied = getSelection().toString() })")
    browser.run("navigator.clipboard.writeText = (text) => { window.copied = text; return Promise.resolve() }")
    browser.press("Enter")
    assert browser.text("#copied") == "Copied." and browser.run("window.copied") == browser.text("#code")
    assert browser.complaints() == []


def test_control_characters_of_a_table_stay_out_of_its_page(tmp_path):
    space = cb.get_space("resnet-mini")
    hostile = "red\x1b[31m\u202eder"
    info = make_info(space, name=hostile, dataset=hostile, source=hostile, accuracy=hostile)
    page = explore.explorer_page(Table.read(write_table(tmp_path / "t.parquet", make_rows(space, 8, 2), info)))
    assert "red\\ufffd[31m\\ufffdder" in page
    for forbidden in ("\x1b", "\u202e", "\\u001b", "\\u202e"):
        assert forbidden not in page
