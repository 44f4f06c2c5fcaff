"""Comparisons in words and columns: for the terminal, as JSON, and as tables for Markdown, LaTeX and HTML.

    >>> print_comparison(compare(scores, table))
    >>> to_latex(Sheet("Kendall", ["method", "Kendall"], [["bcnet", ".694"]]))

A `Sheet` is a table of texts with what has to be said about it; every output format is drawn from the same sheets, so
that none can say something else than another.
"""

from __future__ import annotations

import dataclasses
import html
import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from channel_bench.errors import printable
from channel_bench.space import NUM_ARCHS
from channel_bench.support.terminal import print_json, print_table
from harness.judge.baselines import AdditiveCurve
from harness.judge.comparison import Comparison, Row
from harness.smoothing import describe
from harness.stats.noise import Ceilings

MIN_ARCHS = 30
"""Of fewer architectures nobody is suspected of having seen the accuracies."""
NUM_NAMED = 5
"""How many missing architectures are listed by name."""


@dataclass(frozen=True)
class Sheet:
    """A table of texts."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    """One text per column each."""
    notes: list[str] = field(default_factory=list)
    """What has to be said about it, a line each."""
    links: dict[str, str] = field(default_factory=dict)
    """Addresses (http or https) behind cells of such a text, where the format has links."""


def print_sheet(sheet: Sheet) -> None:
    """Print a sheet on the terminal."""
    print_table(sheet.columns, sheet.rows, title=sheet.title, caption="\n".join(sheet.notes))


def to_markdown(sheet: Sheet) -> str:
    """A sheet as a pipe table: bold title, table, notes as a list."""
    lines = [f"**{_markdown(sheet.title)}**", ""]
    lines.append("| " + " | ".join(map(_markdown, sheet.columns)) + " |")
    lines.append("|" + "---|" * len(sheet.columns))
    for row in sheet.rows:
        cells = [f"[{_markdown(cell)}]({link})" if (link := _link(sheet, cell)) else _markdown(cell) for cell in row]
        lines.append("| " + " | ".join(cells) + " |")
    if sheet.notes:
        lines += ["", *(f"- {_markdown(note)}" for note in sheet.notes)]
    return "\n".join(lines) + "\n"


def to_latex(sheet: Sheet, label: str = "", rules: Collection[int] = ()) -> str:
    r"""A sheet as a LaTeX table that needs ``\usepackage{booktabs}``; title and notes are its caption.

    Args:
        sheet: The table.
        label: For references.
        rules: Numbers of rows that have a rule above them.
    """
    caption = ". ".join(text[:1].upper() + text[1:] for text in [sheet.title, *sheet.notes])
    lines = [
        r"\begin{table}[t]",
        r"  \centering",
        f"  \\caption{{{_latex(caption)}.}}",
        *([f"  \\label{{{label}}}"] if label else []),
        f"  \\begin{{tabular}}{{l{'r' * (len(sheet.columns) - 1)}}}",
        r"    \toprule",
        "    " + " & ".join(map(_latex, sheet.columns)) + r" \\",
        r"    \midrule",
        *(
            r"    \midrule" * (number in rules)
            + "\n" * (number in rules)
            + "    "
            + " & ".join(map(_latex, row))
            + r" \\"
            for number, row in enumerate(sheet.rows)
        ),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def to_html(sheet: Sheet) -> str:
    """A sheet as an HTML figure, everything escaped."""
    head = "".join(f'<th scope="col">{_html(column)}</th>' for column in sheet.columns)
    body = "".join("<tr>" + "".join(_html_cell(sheet, cell) for cell in row) + "</tr>" for row in sheet.rows)
    notes = "".join(f"<li>{_html(note)}</li>" for note in sheet.notes)
    return (
        f"<figure><figcaption>{_html(sheet.title)}</figcaption>"
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        f"<ul>{notes}</ul></figure>\n"
    )


def _html(text: str) -> str:
    return html.escape(printable(text))


def _html_cell(sheet: Sheet, cell: str) -> str:
    text, link = _html(cell), _link(sheet, cell)
    return f'<td><a href="{html.escape(link)}">{text}</a></td>' if link else f"<td>{text}</td>"


def _link(sheet: Sheet, cell: str) -> str | None:
    """The address behind a cell, if it is one that is safe to follow and to write down."""
    link = sheet.links.get(cell, "")
    return link if is_link(link) else None


def is_link(address: str) -> bool:
    """Whether a text is a web address that is safe to follow and to write down."""
    return re.fullmatch(r"https?://[^\s()<>\"']+", address) is not None and address.isprintable()


def _markdown(text: str) -> str:
    text = printable(text)
    for character in "\\`*_[]<>|":
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())


_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "±": r"$\pm$",
}  # fmt: skip


def _latex(text: str) -> str:
    escaped = " ".join("".join(_LATEX.get(character, character) for character in printable(text)).split())
    escaped = escaped.replace("+-", r"$\pm$")
    return re.sub(r"(?<![\w.$}-])-(?=\d)", "$-$", escaped)  # a minus, not a hyphen


# -- numbers --------------------------------------------------------------------------------------------------------


def decimals(value: float, digits: int = 4) -> str:
    """A number with a fixed number of decimals; NaN is "undefined"."""
    return "undefined" if math.isnan(value) else f"{value:.{digits}f}"


def giga(value: float | None) -> str:
    """A count in billions; a dash where it is unknown."""
    return "-" if value is None else f"{value / 1e9:,.0f}"


# -- a comparison ---------------------------------------------------------------------------------------------------


def print_comparison(comparison: Comparison, json_output: bool = False) -> None:
    """Print a comparison as tables with four decimals, or as JSON with all of them."""
    if json_output:
        print_json(dataclasses.asdict(comparison))
        return
    print_sheet(correlation_sheet(comparison))
    if comparison.rows[0].equal_flops is not None:
        print()
        print_sheet(equal_flops_sheet(comparison.rows))
    if comparison.curve is not None and not comparison.methods:
        print()
        print_curve(comparison.curve)


def correlation_sheet(comparison: Comparison) -> Sheet:
    """The three correlations of every row, the ceiling, and what the numbers mean."""
    lines = [_line(row.name, row.kind, row, row) for row in comparison.rows] + _ceiling_lines(comparison)
    columns = ["scores", "kind", "Kendall", "+-", "Spearman", "Pearson", "n", "seeds", "GMAC", "fit s", "score s"]
    if not any(len(row.rankings) > 1 for row in comparison.rows):
        kept = [0, 1, 2, 4, 5, 6]
        columns, lines = [columns[i] for i in kept], [[line[i] for i in kept] for line in lines]
    return Sheet(title_of(comparison), columns, lines, [*facts_of(comparison), *verdicts(comparison)])


def title_of(comparison: Comparison) -> str:
    """Which space, table and data set it is about."""
    return f"space {comparison.space}, table {comparison.table}, data set {comparison.dataset}"


def facts_of(comparison: Comparison) -> list[str]:
    """What the numbers rest on, in sentences."""
    notes = [f"truth: {comparison.truth}", "Kendall is tau-b; higher scores are taken to be better"]
    if any(len(row.rankings) > 1 for row in comparison.rows):
        notes.append(
            "methods with several seeds: mean over supernets; +- is the sample standard deviation of Kendall over them;"
            " GMAC: multiply-accumulates of one training, forward and backward, in billions"
        )
    if comparison.facts:
        notes.append("scores: " + provenance(comparison.facts, comparison.dataset))
    if comparison.missing:
        named = ", ".join(comparison.missing[:NUM_NAMED])
        more = f" and {len(comparison.missing) - NUM_NAMED:,} more" if len(comparison.missing) > NUM_NAMED else ""
        notes.append(f"{len(comparison.missing):,} of {NUM_ARCHS:,} architectures without a score: {named}{more}")
        if len(comparison.methods) > 1:
            lacking = [f"{row.name} {most:,}" for row in comparison.methods if (most := _most_missing(row))]
            notes.append(f"they lack in: {', '.join(lacking)}; all rows are compared on what all methods score")
    if comparison.num_untrained and comparison.methods:
        notes.append(f"{comparison.num_untrained:,} scored architectures are not in the table and were left out")
    if any(math.isnan(row.kendall) for row in comparison.rows):
        notes.append("undefined: the scores, or the truth, are constant")
    return notes


def _most_missing(row: Row) -> int:
    return max((ranking.num_missing for ranking in row.rankings), default=0)


def _line(name: str, kind: str, values: Row | Ceilings, row: Row) -> list[str]:
    known = isinstance(values, Row)
    return [
        name,
        kind,
        decimals(values.kendall),
        f"{row.seed_std:.4f}" if known and row.seed_std is not None else "-",
        decimals(values.spearman),
        decimals(values.pearson),
        f"{row.n:,}",
        str(len(row.rankings) or "-") if known else "-",
        giga(row.train_macs) if known else "-",
        "-" if not known or row.fit_s is None else f"{row.fit_s:.0f}",
        "-" if not known or row.score_s is None else f"{row.score_s:.0f}",
    ]


def _ceiling_lines(comparison: Comparison) -> list[list[str]]:
    """The noise ceiling, and how much of it the methods, or without any the baselines, reach."""
    if comparison.ceiling is None:
        return []
    shown = [row for row in (comparison.methods or comparison.rows) if row.of_ceiling is not None]
    return [_line("noise ceiling", "ceiling", comparison.ceiling, comparison.rows[0])] + [
        _line(row.name, "of ceiling", row.of_ceiling, row) for row in shown if row.of_ceiling is not None
    ]


def verdicts(comparison: Comparison, worths: bool = True) -> list[str]:
    """What the numbers mean, in sentences; `worths`: with what each row is worth in trained architectures."""
    shown = comparison.methods or comparison.rows
    if comparison.ceiling is None:
        notes = ["noise ceiling unknown: no architecture has two runs"]
    else:
        notes = ["noise ceiling: what a perfect predictor would reach, because the accuracies themselves are noisy"]
    for row in comparison.methods:
        if row.of_ceiling is not None and row.of_ceiling.kendall > 1 and row.n >= MIN_ARCHS:
            notes.append(f"{row.name} is above the ceiling: by luck, or because it has seen these accuracies")
        notes += seen_runs(row)
    if comparison.curve is not None:
        each = ", ".join(f"{row.name} {row.worth.text}" for row in shown if row.worth is not None)
        notes.append(
            f"worth: with this many trained architectures an additive fit ({comparison.curve.form}) ranks the rest as"
            f" well; interval over {comparison.curve.num_draws} draws of them" + (f": {each}" if worths else "")
        )
    if comparison.no_curve is not None:
        notes.append(f"worth in trained architectures unknown: {comparison.no_curve}")
    return notes


def seen_runs(row: Row) -> list[str]:
    """Runs of the table whose noise the scores follow, in sentences."""
    notes = []
    for ranking in row.rankings:
        of_seed = f" (seed {ranking.seed})" if len(row.rankings) > 1 else ""
        for check in ranking.seen.checks if ranking.seen is not None else []:
            if check.flagged:
                notes.append(
                    f"{row.name}{of_seed} follows the noise of run {check.run}, which it must have seen: Kendall with"
                    f" the other runs' mean is {check.with_others:.4f}"
                )
    return notes


def equal_flops_sheet(rows: Sequence[Row]) -> Sheet:
    """What is left of correlations at equal FLOPs."""
    found = [(row.name, row.equal_flops) for row in rows if row.equal_flops is not None]
    return Sheet(
        "at equal FLOPs: Kendall tau-b within deciles of FLOPs, D1 the smallest networks",
        ["scores", "Spearman given FLOPs", "mean", *(f"D{i}" for i in range(1, len(found[0][1].kendall) + 1))],
        [[name, *map(decimals, (equal.partial, equal.mean, *equal.kendall))] for name, equal in found],
        ["undefined: constant within the decile, or in the same order as FLOPs"],
    )


def provenance(facts: dict[str, Any], dataset: str) -> str:
    """How scores came about, as far as their file says, beside the data set of the table."""
    parts = [f"data set {facts['dataset']}"] if "dataset" in facts else []
    if facts.get("dataset", dataset) != dataset:
        parts.append(f"which is NOT the table's {dataset}")
    if "validated_on" in facts:
        parts.append(
            {"holdout": "validated on held-out training images", "test": "validated on test images"}.get(
                str(facts["validated_on"]), f"validated on {facts['validated_on']}"
            )
        )
    if isinstance(facts.get("recipe"), dict):
        parts.append(f"recipe {facts['recipe'].get('name')}")
    parts += [f"{name} {facts[name]}" for name in ("seed", "device") if name in facts]
    known = ", ".join(parts) or "their files do not say how they were made"
    return "; ".join([known, *describe(facts)])


def print_curve(curve: AdditiveCurve) -> None:
    """Print a curve as a table."""
    notes = [
        f"Kendall tau-b on the rest of {curve.num_scored:,}; {curve.num_draws} draws, the interval holds"
        f" {curve.level:.0%} of them",
        "every trained architecture counts with all the runs that the truth has of it",
        f"fitted to all accuracies, and scored on them: {curve.fitted_on_all:.4f}",
    ]
    print_table(
        ["trained", "Kendall", "low", "high", "+-"],
        [
            [f"{point.n}", *(f"{value:.4f}" for value in (point.mean, point.low, point.high, point.std))]
            for point in curve.points
        ],
        title=f"additive least-squares fits, form {curve.form!r}, to n trained architectures",
        caption="\n".join(notes),
    )
