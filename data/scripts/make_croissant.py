"""Write data/croissant.json, the shipped tables in the metadata format Croissant of MLCommons.

    python data/scripts/make_croissant.py

Columns with their meanings and units come from the metadata of each field in the Parquet files, sizes and SHA-256 from
the manifest, so this runs after `ship.py`. What the responsible-AI fields say in short, README.md says in full.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from channel_bench.support.durable import write_atomic
from channel_bench.table.shipped import MANIFEST

NAME = "croissant.json"
LICENSE = "https://spdx.org/licenses/Apache-2.0.html"
DATE = "2026-11-27"
"""Day on which the last table was trained and written."""
CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The context of Croissant 1.0, word for word, as its validator wants it."""
RESPONSIBLE = {
    "rai:dataCollection": (
        "Every one of the 16,384 width tuples of each space was trained from scratch with three seeds, on one machine,"
        " by one program; each training gave a row. Nothing is a subset, an estimate or a simulation."
    ),
    "rai:dataCollectionType": ["Experiments"],
    "rai:dataCollectionRawData": (
        "The 1,797 scanned digits, 8x8 pixels, of the test set of UCI's Optical Recognition of Handwritten Digits"
        " (CC BY 4.0); the images are not part of this data set."
    ),
    "rai:dataCollectionMissingData": "None: no training diverged, and no cell is empty.",
    "rai:dataCollectionTimeFrame": ["2026-11-21T00:00:00", f"{DATE}T00:00:00"],
    "rai:dataImputationProtocol": "None: nothing was imputed.",
    "rai:dataPreprocessingProtocol": [
        "One fixed shuffle of the images; the first 1,200 train, the other 597 test. In training each image is shifted"
        " by up to a pixel.",
        "For mobilenet-mini-placed, 1,200 and 600 images of 12x12 pixels: a digit of the same split at a random place,"
        " with normal noise of a tenth of the range, drawn once.",
    ],
    "rai:dataUseCases": [
        "Development and test of methods that search the width of networks, and of optimisers over a tabular space",
        "Not: conclusions about accuracy on other images, or about handwriting",
    ],
    "rai:dataLimitations": [
        "About 600 test images make steps of 0.17 points; three runs leave a reliability of the mean of about .9",
        "In resnet-mini and mobilenet-mini two of the seven widths, slots 0 and 4, decide most of the accuracy",
        "There is no validation split: best_test_acc is the best of 20 looks at the test images",
    ],
    "rai:dataBiases": [
        "Ten classes of clean digits are an easy task for the wide networks, so differences among these are small",
        "The digits are of 13 writers, the test part of UCI's data set",
    ],
    "rai:dataSocialImpact": "None known: the rows are about networks, not about people.",
    "rai:personalSensitiveInformation": ["None: the rows hold no image and name no person"],
    "rai:dataReleaseMaintenancePlan": (
        "A file never changes: a new version has a new name (.v2). CHANGELOG.md says which results moved, and"
        " 'channel-bench verify' checks a file against the hashes that it states."
    ),
}


def make_croissant(folder: Path) -> dict[str, Any]:
    """Describe the tables of a folder.

    Args:
        folder: That of the manifest and of the tables that it names.

    Returns:
        The metadata, as JSON has it.
    """
    tables = json.loads((folder / MANIFEST).read_text())["tables"]
    files: list[dict[str, Any]] = []
    record_sets = []
    for name, facts in sorted(tables.items()):
        files += [_file_object(file, stated) for file, stated in sorted(facts["files"].items(), reverse=True)]
        record_sets.append(_record_set(facts, name, pq.read_schema(folder / name)))
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": "channel-bench-mini",
        "description": (
            "Accuracy, costs, training time and learning curves of all 16,384 width tuples of three small network"
            " spaces (resnet-mini, mobilenet-mini, mobilenet-mini-placed), each trained three times on scikit-learn's"
            " digits: a tabular benchmark of network width search."
        ),
        "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
        "citeAs": (
            "@software{channel_bench, title = {channel-bench: the benchmark of network width search}, author = {{The"
            " channel-bench authors}}, year = {2026}}"
        ),
        "creator": {"@type": "sc:Organization", "name": "The channel-bench authors"},
        "datePublished": DATE,
        "inLanguage": "en",
        "isLiveDataset": False,
        "keywords": ["neural architecture search", "network width search", "channel pruning", "tabular benchmark"],
        "license": LICENSE,
        "version": "1.0.0",
        "distribution": files,
        "recordSet": record_sets,
        **RESPONSIBLE,
    }


def write_croissant(folder: Path) -> Path:
    """Write the metadata of a folder of tables into it.

    Raises:
        StorageError: The file cannot be written.
    """
    path = folder / NAME
    write_atomic((path, (json.dumps(make_croissant(folder), indent=1, ensure_ascii=False) + "\n").encode()))
    return path


def _file_object(name: str, facts: dict[str, Any]) -> dict[str, Any]:
    """A file, by the suffix of its name: a table, or its learning curves."""
    is_table = name.endswith(".parquet")
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "description": (
            "A row for each architecture and run"
            if is_table
            else "Learning curves, float32 (architectures, runs, epochs): train_loss and test_loss in nats, train_acc"
            " and test_acc in percent"
        ),
        "contentUrl": name,
        "contentSize": f"{facts['bytes']} B",
        "encodingFormat": "application/x-parquet" if is_table else "application/x-hdf5",
        "sha256": facts["sha256"],
    }


def _record_set(facts: dict[str, Any], file: str, schema: pa.Schema) -> dict[str, Any]:
    """The rows of a table, which are known by architecture and run."""
    space = facts["space"]
    return {
        "@type": "cr:RecordSet",
        "@id": space,
        "name": space,
        "description": f"{facts['num_archs']} architectures x {facts['num_runs']} runs, {facts['num_rows']} rows",
        "key": [{"@id": f"{space}/arch"}, {"@id": f"{space}/run"}],
        "field": [_field(space, file, field) for field in schema],
    }


def _field(space: str, file: str, field: pa.Field) -> dict[str, Any]:
    """A column: its meaning and unit are the metadata of the field."""
    meaning, unit = (field.metadata[key].decode() for key in (b"meaning", b"unit"))
    kind = "sc:Text" if pa.types.is_string(field.type) else "sc:Integer"
    return {
        "@type": "cr:Field",
        "@id": f"{space}/{field.name}",
        "name": field.name,
        "description": f"{meaning} ({unit})" if unit else meaning,
        "dataType": "sc:Float" if pa.types.is_floating(field.type) else kind,
        "source": {"fileObject": {"@id": file}, "extract": {"column": field.name}},
    }


def main() -> None:
    """Write the file beside the tables."""
    print(f"wrote {write_croissant(Path(__file__).parents[1])}")


if __name__ == "__main__":
    main()
