"""A report as tables of text: what the terminal, Markdown and LaTeX show.

>>> for sheet in report_sheets(report): print_sheet(sheet)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.judge.comparison import Row
from harness.judge.details import Detail
from harness.judge.verdict import MIN_ARCHS, Paired, Report, shown_pairs
from harness.report.sheets import (
    Sheet,
    decimals,
    equal_flops_sheet,
    facts_of,
    giga,
    print_sheet,
    title_of,
    to_latex,
    to_markdown,
    verdicts,
)
from harness.stats.bootstrap import CORRELATIONS, Interval
from harness.stats.metrics import TOP_SIZES

_OVER = {"archs": "architectures", "runs": "runs of the table"}


def report_sheets(report: Report) -> list[Sheet]:
    """Correlations with intervals, tests, the top and the choices within budgets, then equal FLOPs."""
    sheets = [verdict_sheet(report)]
    if report.differences and report.comparison.methods:
        sheets.append(test_sheet(report))
    sheets.append(top_sheet(report))
    if report.budgets:
        sheets.append(choice_sheet(report))
    return [*sheets, equal_flops_sheet(report.comparison.rows)]


def print_report(report: Report) -> None:
    """Print all sheets on the terminal."""
    for number, sheet in enumerate(report_sheets(report)):
        if number:
            print()
        print_sheet(sheet)


def report_markdown(report: Report, figures: Sequence[str] = (), more: Sequence[Sheet] = ()) -> str:
    """All sheets in Markdown, further ones behind them, and figures of these file names."""
    sheets = [*report_sheets(report), *more]
    parts = [f"# Width search on {report.comparison.space}, judged", *map(to_markdown, sheets)]
    parts += [f"![{name.rsplit('.', 1)[0].replace('_', ' ')}]({name})\n" for name in figures]
    return "\n".join([*parts, f"Written by channel-bench {report.version}.", ""])


def report_latex(report: Report) -> str:
    """The table for a paper, narrow and with a short caption, and everything else behind it; needs booktabs."""
    space, num_methods = report.comparison.space, len(report.comparison.methods)
    first = to_latex(paper_sheet(report), f"tab:{space}", rules=[num_methods] if num_methods else [])
    others = [to_latex(sheet, f"tab:{space}-{number}") for number, sheet in enumerate(report_sheets(report), 1)]
    head = f"% channel-bench {report.version}; needs \\usepackage{{booktabs}}"
    return "\n".join([head, first, "% Everything else, for an appendix with wide pages.\n", *others])


def paper_sheet(report: Report) -> Sheet:
    """What fits into a column: Kendall with its interval, the share of the ceiling, at equal FLOPs, the worth."""
    comparison = report.comparison
    lines = []
    for row in comparison.rows:
        ends = interval_text(report.interval(row.name), digits=2)
        lines.append(
            [
                row.name,
                decimals(row.kendall, 3) + (f" ({ends})" if ends != "-" else ""),
                "-" if row.of_ceiling is None else decimals(row.of_ceiling.kendall, 2),
                "-" if row.equal_flops is None else decimals(row.equal_flops.mean, 2),
                "-" if row.worth is None else row.worth.text if row.worth.n is None else f"{row.worth.n:.0f}",
            ]
        )
    brackets = f"; in brackets the {report.level:.0%} interval" if report.num_replicates else ""
    reach = "" if comparison.ceiling is None else f", of which noise leaves {comparison.ceiling.kendall:.3f} reachable"
    return Sheet(
        f"Kendall tau-b with the trained accuracy of {comparison.rows[0].n:,} networks of {comparison.space}{reach}"
        f"{brackets}",
        ["", "Kendall", "of ceiling", "equal FLOPs", "worth"],
        lines,
        [
            "Equal FLOPs: mean within deciles of FLOPs. Worth: trained networks from which an additive fit ranks the"
            " rest as well. The lower rows need no training"
        ],
    )


def verdict_sheet(report: Report) -> Sheet:
    """Kendall of every row with its interval, beside the ceiling and the free baselines."""
    comparison = report.comparison
    lines = [_verdict(row, report.detail(row.name)) for row in comparison.rows]
    if comparison.ceiling is not None:
        ceiling = comparison.ceiling
        known = ["noise ceiling", "-", *(decimals(each, 3) for each in (ceiling.kendall,)), "-"]
        lines.append([*known, decimals(ceiling.spearman, 3), decimals(ceiling.pearson, 3), "-", "-", "-", "-"])
    columns = ["scores", "seeds", "Kendall", "interval", "Spearman", "Pearson", "of ceiling", "equal FLOPs"]
    notes = [*few(comparison.rows[0].n), *facts_of(comparison), f"architectures: n = {comparison.rows[0].n:,}"]
    if report.num_replicates:
        notes.append(f"interval: {report.level:.0%}, {interval_words(report, report.over)}")
        single = [row.name for row in comparison.methods if len(row.rankings) == 1]
        if single:
            notes.append(f"one supernet only, so that intervals say nothing of other seeds: {', '.join(single)}")
        double = [row.name for row in comparison.methods if len(row.rankings) == 2]
        if double:  # Student's t with one degree of freedom
            names = ", ".join(double)
            notes.append(f"two supernets only, so that intervals reach 12.7 standard errors each way: {names}")
    notes.append("of ceiling: share of the Kendall that noise leaves reachable; equal FLOPs: mean Kendall in deciles")
    return Sheet(
        title_of(comparison), [*columns, "worth", "GMAC"], lines, [*notes, *verdicts(comparison, worths=False)]
    )


def few(n: int) -> list[str]:
    """A warning where there are so few architectures that a report says little."""
    if n >= MIN_ARCHS:
        return []
    return [f"only {n} architectures have all scores and an accuracy: too few for intervals, tests and conclusions"]


def interval_words(report: Report, over: Sequence[str]) -> str:
    """How intervals came about."""
    resampled = " and ".join(_OVER[what] for what in over if what in _OVER)
    words = f"bootstrap over {resampled}, {report.num_replicates:,} replicates"
    return words + (", and the scatter of supernets (t distribution)" if "seeds" in over else "")


def _verdict(row: Row, detail: Detail) -> list[str]:
    return [
        row.name,
        str(len(row.rankings) or "-"),
        decimals(row.kendall, 3),
        interval_text(detail.intervals.get("kendall")),
        decimals(row.spearman, 3),
        decimals(row.pearson, 3),
        "-" if row.of_ceiling is None else decimals(row.of_ceiling.kendall, 3),
        decimals(detail.summary["kendall_at_equal_flops"], 3),
        "-" if row.worth is None else row.worth.text,
        giga(row.train_macs),
    ]


def test_sheet(report: Report) -> Sheet:
    """Each method against the best free baseline and against the method below it."""
    comparison = report.comparison
    best = comparison.best_baseline
    lines = [_paired(report.paired(*pair)) for pair in shown_pairs(comparison)]
    return Sheet(
        "differences of Kendall, paired",
        ["first", "minus second", "difference", "interval", "p", "p adjusted"],
        lines,
        [
            f"each method beside the best free baseline ({best.name}) and the method below it; all pairs: see the JSON",
            "p: of no difference, two-sided, from the standard error on the same replicates; adjusted for these"
            f" {len(lines)} comparisons (Holm)",
        ],
    )


def _paired(pair: Paired) -> list[str]:
    difference = pair.difference
    return [
        pair.first,
        pair.second,
        "undefined" if math.isnan(difference.interval.estimate) else f"{difference.interval.estimate:+.3f}",
        interval_text(difference.interval, signed=True),
        p_text(difference.p_value),
        "-" if pair.p_adjusted is None else p_text(pair.p_adjusted),
    ]


def p_text(value: float) -> str:
    """A p-value with three decimals; never 0."""
    return "< 0.001" if value < 0.0005 else decimals(value, 3)


def top_sheet(report: Report) -> Sheet:
    """The top of the rankings, which is mostly luck."""
    details = report.details
    sizes = [k for k in TOP_SIZES if f"p_at_top{k}" in details[0].summary]
    columns = ["scores", "weighted tau", "kt_1dec"]
    for k in sizes:
        columns += [f"precision@{k}", f"best rank@{k}"]
    lines = []
    for detail in details:
        line = [detail.name, decimals(detail.summary["weighted_tau"], 3), decimals(detail.summary["kt_1dec"], 3)]
        for k in sizes:
            line += [_with_interval(detail, f"p_at_top{k}", 2), _with_interval(detail, f"br_at_{k}", 0)]
        lines.append(line)
    return Sheet(
        "at the top",
        columns,
        lines,
        [
            "weighted tau: the top counts most; kt_1dec: Kendall with accuracies rounded to one decimal",
            *["precision@k: share of the k best-scored among the k best; best rank@k: the best true rank among them"]
            * bool(sizes),
            *_luck(report),
        ],
    )


def choice_sheet(report: Report) -> Sheet:
    """What every ranking chooses within budgets of FLOPs, and what that gives away."""
    columns = ["scores"]
    for budget in report.budgets:
        columns += [f"regret, {short(budget)}", "unseen"]
    lines = []
    for detail in report.details:
        line = [detail.name]
        for pick in detail.picks:
            interval = f" ({interval_text(pick.interval, digits=2)})" if pick.interval is not None else ""
            line += [
                f"{pick.regret:.2f}{interval}",
                "-" if math.isnan(pick.regret_unseen) else f"{pick.regret_unseen:+.2f}",
            ]
        lines.append(line)
    return Sheet(
        "chosen within budgets of FLOPs",
        columns,
        lines,
        [
            "regret: accuracy of the best architecture that fits minus that of the best-scored one, points; luck has"
            " raised the best",
            "unseen: the same against a best found without the run that it is measured on, which luck does not raise",
            *_without_scores(report),
            *_luck(report),
        ],
    )


def _without_scores(report: Report) -> list[str]:
    """What is chosen without any scores, a line for each baseline."""
    found: dict[str, list[str]] = {}
    trainings: dict[str, float] = {}
    for budget, choices in zip(report.budgets, report.vanilla, strict=True):
        for choice in choices:
            shown = f" ({choice.arch})" if choice.arch else ""
            found.setdefault(choice.name, []).append(f"{choice.regret:.2f} within {short(budget)}{shown}")
            trainings[choice.name] = choice.trainings
    lines = []
    for name, texts in found.items():
        cost = f", mean over draws; costs {trainings[name]:.1f} trainings" if trainings[name] else ""
        lines.append(f"{name}, without scores: regret {', '.join(texts)}{cost}")
    return lines


def _luck(report: Report) -> list[str]:
    if len(report.details[0].intervals) <= len(CORRELATIONS):
        return []
    words = interval_words(report, [what for what in report.over if what != "archs"])
    return [f"in brackets: {report.level:.0%} interval, {words}; what is best in a table is mostly luck"]


def _with_interval(detail: Detail, metric: str, digits: int) -> str:
    interval = detail.intervals.get(metric)
    ends = f" ({interval_text(interval, digits=digits)})" if interval is not None else ""
    return f"{detail.summary[metric]:.{digits}f}{ends}"


def interval_text(interval: Interval | None, digits: int = 3, signed: bool = False) -> str:
    """Both ends of an interval; a dash where it is unknown."""
    if interval is None or math.isnan(interval.low):
        return "-"
    sign = "+" if signed else ""
    return f"{interval.low:{sign}.{digits}f} to {interval.high:{sign}.{digits}f}"


def short(flops: float) -> str:
    """FLOPs with a suffix, three digits: 718M, 1.44G."""
    for scale, suffix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if flops >= scale:
            return f"{flops / scale:.3g}{suffix}"
    return f"{flops:.3g}"
