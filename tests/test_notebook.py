"""The tour is kept without outputs, runs, and its text states no number that does not come out."""

import os
import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="the notebook needs nbformat")
nbclient = pytest.importorskip("nbclient", reason="the notebook needs nbclient")
pytest.importorskip("ipykernel", reason="the notebook needs ipykernel")
pytest.importorskip("matplotlib", reason="the notebook draws with matplotlib")

import channel_bench as cb  # noqa: E402
from channel_bench.space import NUM_ARCHS  # noqa: E402
from harness.judge.comparison import compare  # noqa: E402

ROOT = Path(__file__).parents[1]
TOUR = ROOT / "examples" / "tour.ipynb"
NUMBER = re.compile(r"[0-9][0-9,]*[.][0-9]+|[0-9][0-9,]{2,}")
"""A figure that could be a result: with decimals, or of three digits."""


def sources(notebook, kind):
    return [cell.source for cell in notebook.cells if cell.cell_type == kind]


def texts(notebook):
    """What the cells print, by cell, and the images that they draw."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    printed = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    images = [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    return printed, images


def test_the_tour_is_kept_without_outputs_and_without_a_machine():
    notebook = nbformat.read(TOUR, as_version=4)
    nbformat.validate(notebook)
    assert TOUR.stat().st_size < 20_000
    for number, cell in enumerate(notebook.cells):
        assert cell.id == f"cell-{number:02}" and not cell.metadata
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    assert notebook.metadata == {"kernelspec": kernel, "language_info": {"name": "python"}}
    assert not re.search(r"/(home|root|tmp|Users)/", TOUR.read_text())


def test_the_files_that_the_text_names_are_there():
    named = re.findall(r"`([a-z_]+/[a-z_/.]+)`", "\n".join(sources(nbformat.read(TOUR, as_version=4), "markdown")))
    assert named and all((ROOT / name).exists() for name in named)


@pytest.mark.long
def test_the_tour_runs_and_shows_what_its_text_says(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("PYTHONWARNINGS", "default")
    notebook = nbformat.read(TOUR, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed, images = texts(notebook)
    assert len(images) == 2
    assert not any(tmp_path.iterdir())  # it leaves nothing behind
    for number in NUMBER.findall("\n".join(sources(notebook, "markdown"))):
        assert number in printed or number == f"{NUM_ARCHS:,}", f"{number} is in the text and comes out nowhere"
    # The numbers are those of the package, and each part has its own.
    table = cb.load("resnet-mini")
    free = compare(None, table)
    for row in free.rows:
        assert f"{row.name:<14} {row.kendall:.3f}\n" in printed
    assert f"{'noise ceiling':<14} {free.ceiling.kendall:.3f}\n" in printed
    assert f"4344424: {table.accuracy('4344424'):.2f} %" in printed
    for part in (r"^bcnet_v2 .* seeds( 0[.]\d{3}){3}$", r"^local_search .* points$", r"^bottlenecks 0[.]\d{3};"):
        assert re.search(part, printed, re.MULTILINE), part
