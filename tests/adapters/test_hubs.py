"""The folder data/ as hubs read it: a dataset card, Croissant metadata, a citation, a datasheet."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import SCRIPTS, load_script
from optional import needs

import channel_bench as cb
from channel_bench.record import SCHEMA
from channel_bench.table import shipped

DATA = Path(__file__).parents[2] / "data"
CARD = re.match(r"\A---\n(.*?)\n---\n\n# Data\n", (DATA / "README.md").read_text(), re.DOTALL)

LOAD = """
import json, sys
import datasets
names = datasets.get_dataset_config_names(sys.argv[1])
found = {name: datasets.load_dataset(sys.argv[1], name, split="train") for name in names}
kept = ("arch", "run", "best_test_acc")
columns = {name: {column: rows[column][:] for column in kept} for name, rows in found.items()}
default = datasets.load_dataset(sys.argv[1])
print(json.dumps({"columns": columns, "names": found[names[0]].column_names, "default": len(default["train"])}))
"""


@needs("datasets")
def test_load_dataset_gives_the_tables_and_nothing_else(tmp_path):
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", LOAD, str(DATA)]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    assert set(found["columns"]) == set(shipped.SPACES) and found["names"] == SCHEMA.names
    assert found["default"] == 49152
    for space, columns in found["columns"].items():
        table = cb.load(space)
        indices = table.space.index(columns["arch"])
        assert np.array_equal(table.cells()[indices, columns["run"]], columns["best_test_acc"])


def test_the_card_names_the_shipped_tables_and_a_licence():
    yaml = pytest.importorskip("yaml", reason="no PyYAML here: pip install 'channel-bench[docs]'")
    assert CARD is not None
    card = yaml.safe_load(CARD[1])
    paths = {config["config_name"]: config["data_files"][0]["path"] for config in card["configs"]}
    assert paths == {space: f"{space}.v1.parquet" for space in shipped.SPACES}
    assert card["license"] == "apache-2.0" and card["task_categories"] == ["tabular-regression"]
    assert card["pretty_name"] and card["size_categories"] == ["10K<n<100K"]


def test_the_citation_has_what_its_format_requires():
    yaml = pytest.importorskip("yaml", reason="no PyYAML here: pip install 'channel-bench[docs]'")
    citation = yaml.safe_load((DATA.parent / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= citation.keys() and citation["license"] == "Apache-2.0"
    assert all({"type", "title", "authors"} <= reference.keys() for reference in citation["references"])
    assert {"Optical Recognition of Handwritten Digits", "BCNetV2"} <= {
        each["title"] for each in citation["references"]
    }


def test_the_datasheet_answers_the_usual_questions_and_states_licences():
    text = (DATA / "README.md").read_text()
    questions = ("Motivation", "Composition", "Collection", "Preprocessing", "Uses", "Distribution", "Maintenance")
    assert [question for question in questions if f"\n**{question}" not in text] == []
    rows = [line for line in text.split("## Datasheet")[0].splitlines() if line.startswith("| `")]
    assert all(row.endswith("| Apache-2.0 |") for row in rows)
    listed = {name.rstrip("/") for row in rows for name in re.findall(r"`([\w.-]+/?)`", row.split("|")[1])}
    assert listed == {path.name for path in DATA.iterdir()} - {"README.md"}


def test_what_the_datasheet_says_of_empty_cells_is_so():
    for space in shipped.SPACES:
        schema = pq.read_table(DATA / f"{space}.v1.parquet")
        assert [name for name in schema.column_names if schema.column(name).null_count] == []


def test_the_front_matter_is_not_on_the_site():
    pytest.importorskip("mkdocs", reason="no mkdocs here: pip install 'channel-bench[docs]'")
    hooks = load_script(Path(__file__).parents[2] / "docs" / "hooks.py")
    page = hooks.on_page_markdown((Path(__file__).parents[2] / "docs/reference/mini-tables.md").read_text())
    assert page.startswith("# Data\n") and "pretty_name" not in page and "## Datasheet of the mini tables" in page


# -- Croissant ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def script():
    return load_script(SCRIPTS / "make_croissant.py")


@pytest.fixture(scope="module")
def croissant():
    return json.loads((DATA / "croissant.json").read_text())


def test_croissant_is_what_the_script_makes(script, croissant):
    assert croissant == script.make_croissant(DATA), "run python data/scripts/make_croissant.py"


def test_croissant_states_every_file_and_every_column(croissant):
    manifest = json.loads((DATA / "manifest.json").read_text())["tables"]
    hashes = {name: facts["sha256"] for table in manifest.values() for name, facts in table["files"].items()}
    assert {file["contentUrl"]: file["sha256"] for file in croissant["distribution"]} == hashes
    for records in croissant["recordSet"]:
        assert [field["name"] for field in records["field"]] == SCHEMA.names
        for field, column in zip(records["field"], SCHEMA, strict=True):
            assert field["description"].startswith(column.metadata[b"meaning"].decode())
    assert croissant["license"].endswith("Apache-2.0.html")
    wanted = ("dataCollection", "dataLimitations", "dataBiases", "dataUseCases", "personalSensitiveInformation")
    assert all(croissant[f"rai:{name}"] for name in wanted)


def test_croissant_is_written_where_the_tables_are(script, tmp_path):
    for name in ("manifest.json", *(f"{space}.v1.parquet" for space in shipped.SPACES)):
        (tmp_path / name).symlink_to(DATA / name)
    written = script.write_croissant(tmp_path)
    assert written.read_bytes() == (DATA / "croissant.json").read_bytes()


@needs("mlcroissant")
@pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated")
@pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame.reset_index")
def test_mlcroissant_finds_no_fault_and_reads_the_records(croissant, tmp_path):
    import mlcroissant

    dataset = mlcroissant.Dataset(jsonld=str(DATA / "croissant.json"))
    issues = dataset.metadata.ctx.issues
    assert (set(issues.errors), set(issues.warnings)) == (set(), set())
    assert dataset.metadata.data_limitations == croissant["rai:dataLimitations"]
    table = cb.load("mobilenet-mini")
    for record, _ in zip(dataset.records("mobilenet-mini"), range(30), strict=False):
        arch, run = record["mobilenet-mini/arch"].decode(), record["mobilenet-mini/run"]
        assert record["mobilenet-mini/best_test_acc"] == table.accuracy(arch, run=run)
    changed = json.loads(json.dumps(croissant))
    del changed["name"], changed["recordSet"][0]["field"][0]["source"]["fileObject"]
    (tmp_path / "changed.json").write_text(json.dumps(changed))
    with pytest.raises(mlcroissant.ValidationError):
        mlcroissant.Dataset(jsonld=str(tmp_path / "changed.json"))
