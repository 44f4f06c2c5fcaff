"""Files of others: regular and of a stated size, or one line; JSON without surprises."""

import json
import os

import pytest

from channel_bench.errors import ChannelBenchError, CorruptFileError, MissingDataError
from channel_bench.support.reading import parse_json, read_file


def test_a_regular_file_is_read_up_to_its_limit(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_file(path, "score file", 5) == b"12345"
    with pytest.raises(CorruptFileError, match="has 5 bytes: allowed are at most 4 bytes"):
        read_file(path, "score file", 4)


def test_a_link_to_a_regular_file_is_followed(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert read_file(tmp_path / "link", "score file", 5) == b"x"


@pytest.mark.parametrize(
    "kind, message", [("zero", "a pipe or device"), ("pipe", "a pipe or device"), ("dir", "a folder")]
)
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, kind, message):
    path = tmp_path / "given"
    {"zero": lambda: path.symlink_to("/dev/zero"), "pipe": lambda: os.mkfifo(path), "dir": path.mkdir}[kind]()
    with pytest.raises(CorruptFileError, match=f"score file .* is {message}: only regular files are read"):
        read_file(path, "score file", 10)


@pytest.mark.parametrize("name", ["absent", "x" * 5000, "a\x00b", "file/below"])
def test_a_file_that_is_not_there_is_one_line(tmp_path, name):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(MissingDataError) as raised:
        read_file(tmp_path / name, "score file", 10)
    assert len(str(raised.value)) < 500 and str(raised.value).isprintable()


def test_honest_json_is_what_json_says():
    document = {"a": [1, 2.5, None, True, "Grüße \U0001f600"], "b": {"c": {}}, "n": 2**63 - 1}
    assert parse_json(json.dumps(document).encode(), "entry") == document


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"a": 1, "a": 2}', "key 'a' stands twice"),
        ('{"a": NaN}', "NaN is no number of JSON"),
        ('{"a": 1e999}', "number 1e999 is too large"),
        ('{"a": 1' + "0" * 400 + "}", "does not fit 64 bits"),
        ('{"a": 9223372036854775808}', "does not fit 64 bits"),
        ('{"a": "\\ud800"}', "half a surrogate pair"),
        ('["\\udbff"]', "half a surrogate pair"),
        ('{"\\udfff": 1}', "half a surrogate pair"),
        ("[" * 100_000, "nested too deeply"),
        ("{", "not valid JSON"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_json_with_surprises_is_one_line(text, message):
    with pytest.raises(ChannelBenchError, match=message):
        parse_json(text, "entry 'mine.json'")
