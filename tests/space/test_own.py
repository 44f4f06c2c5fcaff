"""Spaces of one's own: read from TOML, registered, refused in one line where they cannot be."""

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from families import plain, space_of

import channel_bench as cb
from channel_bench.errors import ArgumentError, ChannelBenchError, CorruptFileError, MissingDataError, UnknownNameError
from channel_bench.space import own
from channel_bench.space.own import for_worker, get_space, in_worker, load_space, register_space, space_of_file

ROOT = Path(__file__).parents[2]
GOOD = """
name = "mine"
family = "resnet"
max_channels = [8, 8, 8, 8, 16, 16, 16]
input_shape = [1, 8, 8]
num_classes = 10
dataset = "digits"
recipe = "mini"
"""


@pytest.fixture(autouse=True)
def no_spaces(monkeypatch):
    monkeypatch.setattr(own, "_registered", {})


def written(folder, text, name="mine.toml"):
    path = folder / name
    path.write_text(text)
    return path


def test_a_file_gives_the_space_that_its_keys_say(tmp_path):
    space = load_space(written(tmp_path, GOOD))
    expected = dataclasses.replace(get_space("resnet-mini"), name="mine", max_channels=(8, 8, 8, 8, 16, 16, 16))
    assert space == expected
    assert get_space("mine") is space and cb.list_spaces()[-1] == "mine"
    assert space.fingerprint != get_space("resnet-mini").fingerprint


def test_paths_are_relative_to_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    (tmp_path / "nets.py").write_text((ROOT / "examples" / "own_space" / "plain.py").read_text())
    text = GOOD.replace('"resnet"', '"nets.py:plain"').replace('"digits"', '"photos"') + 'table = "t/mine.parquet"\n'
    space = get_space(str(written(tmp_path, text)))
    assert (space.dataset, space.table) == (str(tmp_path / "photos"), str(tmp_path / "t/mine.parquet"))
    assert space.family == "nets.py:plain" and [layer.kernel for layer in space.layers] == [3] * 7 + [1]


def test_the_example_is_the_plain_family():
    space = load_space(ROOT / "examples" / "own_space" / "plain-mini.toml")
    assert space.layers == plain((8, 8)) and space.fingerprint == space_of(plain).fingerprint


def without(key):
    return "\n".join(line for line in GOOD.splitlines() if not line.startswith(key))


def instead(key, value):
    return f"{without(key)}\n{key} = {value}\n"


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        (without("recipe"), ArgumentError, "has no recipe: its keys are name, family, max_channels"),
        (GOOD + "depth = 3\n", ArgumentError, "has an unknown key 'depth': allowed are name, family"),
        (instead("num_classes", '"ten"'), ArgumentError, "num_classes is 'ten', allowed is a whole number"),
        (instead("num_classes", "true"), ArgumentError, "num_classes is 'True', allowed is a whole number"),
        (instead("num_classes", "1"), ArgumentError, "num_classes is 1: allowed is a whole number 2..65536"),
        (instead("max_channels", "8"), ArgumentError, "max_channels is '8', allowed is a list of whole numbers"),
        (
            instead("max_channels", "[8, 8]"),
            ArgumentError,
            "max_channels is [8, 8]: allowed are 7 whole numbers 4..16384",
        ),
        (instead("max_channels", "[8, 8, 8, 8.0, 8, 8, 8]"), ArgumentError, "allowed are 7 whole numbers"),
        (
            instead("max_channels", "[8, 8, 8, 10, 8, 8, 8]"),
            ArgumentError,
            "max_channels of slot 3 is 10: allowed are numbers divisible by 4",
        ),
        (instead("input_shape", "[8, 8]"), ArgumentError, "allowed are three whole numbers 1..1024, [channels, height"),
        (instead("input_shape", "[1, 8, 9999]"), ArgumentError, "input_shape is [1, 8, 9999]"),
        (instead("family", '"vgg"'), UnknownNameError, "unknown family 'vgg'"),
        (instead("recipe", '"fast"'), UnknownNameError, "unknown recipe 'fast': known are mini, paper"),
        (instead("name", '"resnet-mini"'), ArgumentError, "the name belongs to a space of channel-bench"),
        (instead("name", '"My Space"'), ArgumentError, "allowed as a name are lower-case letters, digits, - and _"),
        (instead("name", '"a.b"'), ArgumentError, "allowed as a name are"),
        (instead("name", '""'), ArgumentError, "name is '', allowed is text of 1 to 1,000 printable"),
        (instead("dataset", '"a\\u0007"'), ArgumentError, "allowed is text of 1 to 1,000 printable"),
        ("name = ", CorruptFileError, "is not TOML: Invalid value"),
        ("name = 'a'\nname = 'b'", CorruptFileError, "is not TOML: Cannot overwrite a value"),
    ],
)
def test_a_file_that_is_no_space_is_one_line(text, kind, message, tmp_path):
    path = written(tmp_path, text)
    with pytest.raises(ChannelBenchError, match=re.escape(message)) as caught:
        load_space(path)
    assert type(caught.value) is kind
    assert str(caught.value).startswith(f"space file {str(path)!r}") and "\n" not in str(caught.value)
    assert cb.list_spaces()[-1] == "mobilenet-mini-placed"  # nothing is known by halves


def test_what_is_no_regular_file_of_a_reasonable_size_is_not_read(tmp_path):
    (tmp_path / "folder.toml").mkdir()
    written(tmp_path, "#" * (own.MAX_FILE_BYTES + 1), "large.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    os.mkfifo(tmp_path / "pipe.toml")
    for name, kind, message in (
        ("none.toml", MissingDataError, "does not exist"),
        ("folder.toml", CorruptFileError, "is a folder: only regular files are read"),
        ("pipe.toml", CorruptFileError, "is a pipe or device"),
        ("large.toml", CorruptFileError, "allowed are at most 65,536 bytes"),
        ("bytes.toml", CorruptFileError, "is not TOML: 'utf-8' codec"),
    ):
        with pytest.raises(ChannelBenchError, match=message) as caught:
            get_space(tmp_path / name)
        assert type(caught.value) is kind


def test_a_name_stands_for_one_space_and_an_edited_file_for_what_it_says_now(tmp_path):
    first = load_space(written(tmp_path, GOOD))
    wider = GOOD.replace("[8, 8,", "[16, 8,")
    edited = load_space(written(tmp_path, wider))
    assert get_space("mine") is edited and edited != first
    assert load_space(written(tmp_path, wider, "copy.toml")) == edited
    with pytest.raises(ArgumentError, match=r"space 'mine' is known from .*copy.toml' with other values: give one"):
        load_space(written(tmp_path, GOOD, "other.toml"))
    with pytest.raises(ArgumentError, match="give one of the two another name"):
        register_space(first)


def test_a_space_from_python_is_checked_like_one_of_a_file():
    space = space_of(plain)
    assert register_space(space) is space and get_space("plain-mini") is space
    for changes, message in (
        ({"max_channels": (8,) * 6}, "allowed are 7 whole numbers"),
        ({"name": "resnet"}, "belongs to a space of channel-bench"),
        ({"name": 3}, "allowed as a name are"),
    ):
        with pytest.raises(ArgumentError, match=message):
            register_space(dataclasses.replace(space, **changes))
    assert register_space(get_space("resnet")) is get_space("resnet")  # does no harm


def test_a_space_gets_to_another_process_whole():
    space = space_of(plain)
    assert in_worker(for_worker(space)) == space and get_space("plain-mini") == space
    assert for_worker(get_space("resnet")) == "resnet" and in_worker("resnet") is get_space("resnet")


def test_a_file_of_a_space_that_is_not_known_or_not_as_it_was_says_so(tmp_path):
    path = written(tmp_path, GOOD)
    message = "table 'x' is of space 'mine', which is not known here: pass its TOML file with --space"
    with pytest.raises(UnknownNameError, match=message):
        space_of_file("table 'x'", "trained with", "mine", "0")
    with pytest.raises(UnknownNameError, match="not known here"):
        space_of_file("table 'x'", "trained with", str(path), "0")  # a file never names another file to read
    space = load_space(path)
    assert space_of_file("table 'x'", "trained with", "mine", space.fingerprint) is space
    with pytest.raises(
        CorruptFileError, match="was trained with other networks under the name 'mine': its TOML file or"
    ):
        space_of_file("table 'x'", "trained with", "mine", "0")


def test_the_spaces_are_as_they_were_and_importing_stays_light():
    code = (
        "import sys, channel_bench as cb; spaces = [cb.get_space(name) for name in cb.list_spaces()];"
        "print(*(space.fingerprint for space in spaces));"
        "print([name for name in ('torch', 'pandas', 'pyarrow', 'tomllib', 'tomli', 'importlib.metadata')"
        " if name in sys.modules])"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    fingerprints = "23b06967a1da989f 025742bf28fb71f9 38889edcefa6677a 22926c80114b98e8 e769ba75c7f4ebb0"
    assert there.splitlines() == [fingerprints, "[]"]
