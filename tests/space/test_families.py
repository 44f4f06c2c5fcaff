"""Families of one's own: found by name, module, file or package, and refused where their layers are no network."""

import dataclasses
import importlib
import pickle
import re
import subprocess
import sys

import pytest
from families import FAMILIES, chain, deep, mixed, plain, space_of

import channel_bench as cb
from channel_bench.errors import ArgumentError, ChannelBenchError, CorruptFileError, MissingDataError, UnknownNameError
from channel_bench.space import Space
from channel_bench.space import families as room
from channel_bench.space.families import check_layers, layers_of, register_family
from channel_bench.space.layers import CLASSES, IMAGE

CODE = """
from channel_bench.space.layers import CLASSES, IMAGE, Layer

def straight(image_size):
    layers = [Layer(f"conv{slot}.0", slot - 1 if slot else IMAGE, slot, image_size, kernel=3) for slot in range(7)]
    return [*layers, Layer("classifier", 6, CLASSES, image_size, relu=False)]

def broken(image_size):
    return 1 / 0
"""


@pytest.fixture(autouse=True)
def no_names(monkeypatch):
    monkeypatch.setattr(room, "_registered", {})


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
@pytest.mark.parametrize("size", [(8, 8), (13, 7)])
def test_layers_that_are_a_network_pass(family, size):
    assert check_layers("mine", list(family(size)), size) == family(size)


def changed(number, **fields):
    """The plain family with one layer changed."""
    layers = list(plain((8, 8)))
    layers[number] = dataclasses.replace(layers[number], **fields)
    return layers


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (None, "gives no layers: allowed are 2 to 1000"),
        ([1, 2], "gives no layers"),
        (plain((8, 8))[:-1], "'conv6.0': the last layer must be Layer('classifier', SLOT, CLASSES, SIZE, relu=False)"),
        (
            changed(2, reads=0),
            "'conv2.0': it reads slot 0 of (4, 4) pixels, the layer before it writes slot 1 of (4, 4)",
        ),
        (
            changed(2, input_size=(8, 8)),
            "it reads slot 1 of (8, 8) pixels, the layer before it writes slot 1 of (4, 4)",
        ),
        (changed(0, reads=0), "it reads slot 0 of (8, 8) pixels, the layer before it writes IMAGE of (8, 8)"),
        (
            chain((8, 8), [("stem.0", 0, {}), ("conv1.0", 3, {})]),
            "'conv1.0': it writes slot 3 before slot 1: number slots as they are written",
        ),
        (changed(0, writes=CLASSES), "only the last layer, 'classifier', writes CLASSES"),
        (changed(0, writes=9), "writes is '9': allowed are slots 0..6"),
        (changed(3, writes=1.0), "writes is '1.0': allowed are slots 0..6"),
        (changed(3, kernel=2), "kernel is '2': allowed are odd numbers 1..15"),
        (changed(3, stride=0), "stride is '0': allowed are whole numbers 1..16"),
        (changed(3, relu=1), "relu is '1': allowed are True and False"),
        (changed(3, name=3), "its name is no text"),
        (changed(3, name="conv3"), "allowed are names BLOCK.POSITION"),
        (changed(3, name="forward.0"), "allowed are names BLOCK.POSITION"),
        (changed(3, name="conv1.2"), "the layers of block 'conv1' do not follow each other"),
        (changed(3, name="conv2.1"), "positions within a block must be two apart"),
        (changed(3, input_size=[4, 4]), "input_size is [4, 4]: allowed are two whole numbers >= 1"),
        (changed(3, depthwise=True), "it is depthwise, but reads slot 2 and writes slot 3"),
        (changed(3, skip=True), "a skip line ends at the last layer of its block"),
        (changed(7, relu=True), "the last layer must be Layer('classifier'"),
        (chain((8, 8), [("stem.0", 0, {}), ("conv1.0", 0, {"skip": True})]), "writes 1 slots: allowed are 7, 0 to 6"),
    ],
)
def test_layers_that_are_no_network_are_refused_with_their_reason(layers, message):
    with pytest.raises(ArgumentError, match=re.escape(message)):
        check_layers("mine", layers, (8, 8))


def test_a_skip_line_has_to_end_where_its_block_does():
    rest = [(f"conv{slot}.0", slot, {}) for slot in range(1, 7)]
    for parts in (
        [("stem.0", 0, {}), ("block1.0", 0, {"skip": True}), ("block1.2", 0, {})],  # in its middle
        [("stem.0", 0, {}), ("block1.0", 0, {"stride": 2, "skip": True})],  # at another size
        [("stem.0", 0, {"skip": True})],  # with the image
    ):
        with pytest.raises(ArgumentError, match="a skip line ends at the last layer of its block"):
            check_layers("mine", chain((8, 8), parts + rest), (8, 8))


def test_a_registered_family_has_a_name():
    decorated = register_family("straight")(plain)
    assert decorated is plain and layers_of("straight", (8, 8)) == plain((8, 8))
    space = Space("mine", "straight", (8,) * 7, (1, 8, 8), "digits", "mini")
    assert space.layers == plain((8, 8)) and space.own_layers == space.layers
    register_family("straight")(deep)  # as a notebook does whose cell is run again
    assert layers_of("straight", (8, 8)) == deep((8, 8))
    for name, message in (("resnet", "is built in"), ("No Name", "lower-case letters"), (3, "lower-case letters")):
        with pytest.raises(ArgumentError, match=message):
            register_family(name)


def test_a_family_in_a_file_is_found_from_a_folder_and_again_after_it_was_changed(tmp_path):
    (tmp_path / "nets.py").write_text(CODE)
    found = layers_of("nets.py:straight", (8, 8), tmp_path)
    assert [layer.writes for layer in found] == [0, 1, 2, 3, 4, 5, 6, CLASSES] and found[0].reads == IMAGE
    (tmp_path / "nets.py").write_text(CODE.replace("kernel=3", "kernel=1"))
    assert {layer.kernel for layer in layers_of("nets.py:straight", (8, 8), tmp_path)} == {1}
    assert layers_of(f"{tmp_path}/nets.py:straight", (8, 8)) == layers_of("nets.py:straight", (8, 8), tmp_path)


def test_a_family_in_a_module_is_found(tmp_path, monkeypatch):
    (tmp_path / "some_nets.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    assert len(layers_of("some_nets:straight", (8, 8))) == 8
    del sys.modules["some_nets"]


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        (
            "vgg",
            UnknownNameError,
            "unknown family 'vgg': known are file.py:function, mobilenet, module:function, resnet",
        ),
        ("nets.py:strait", UnknownNameError, "unknown family of 'nets.py' 'strait'.*did you mean 'straight'"),
        ("nets.py", ArgumentError, "is a file: add the function that gives its layers, nets.py:FUNCTION"),
        ("none.py:f", MissingDataError, "file of a family .*none.py' does not exist"),
        (".py:f", MissingDataError, "does not exist"),
        ("no_such_module_here:f", ArgumentError, "cannot import 'no_such_module_here': ModuleNotFoundError"),
        ("wrong.py:f", ArgumentError, "cannot import 'wrong.py': SyntaxError"),
        ("stop.py:f", ArgumentError, "cannot import 'stop.py': SystemExit"),
        ("nets.py:broken", ArgumentError, "gives no layers for images of .8, 8.: ZeroDivisionError: division by zero"),
        ("large.py:f", CorruptFileError, "allowed are at most 1,048,576 bytes"),
        ("folder.py:f", CorruptFileError, "is a folder: only regular files are read"),
    ],
)
def test_a_family_that_cannot_be_found_or_run_is_one_line(text, kind, message, tmp_path):
    (tmp_path / "nets.py").write_text(CODE)
    (tmp_path / "wrong.py").write_text("def f(:")
    (tmp_path / "stop.py").write_text("raise SystemExit(0)")
    (tmp_path / "large.py").write_bytes(b"#" * (2**20 + 1))
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(ChannelBenchError, match=message) as caught:
        layers_of(text, (8, 8), tmp_path)
    assert type(caught.value) is kind and "\n" not in str(caught.value)


def test_an_installed_package_offers_families_and_spaces(tmp_path, monkeypatch):
    (tmp_path / "their_nets.py").write_text(
        CODE + "from channel_bench.space import Space\n"
        "SPACE = Space('their-mini', 'their-net', (8,) * 7, (1, 8, 8), 'digits', 'mini')\n"
        "OTHER = SPACE\n"
    )
    info = tmp_path / "their_nets-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-nets\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[channel_bench.families]\ntheir-net = their_nets:straight\nlost = their_nets:lost\n\n"
        "[channel_bench.spaces]\ntheir-mini = their_nets:SPACE\nother = their_nets:OTHER\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    monkeypatch.setattr("channel_bench.space.own._registered", {})
    assert len(layers_of("their-net", (8, 8))) == 8
    assert cb.get_space("their-mini").family == "their-net" and "their-mini" in cb.list_spaces()
    with pytest.raises(ArgumentError, match="installed family 'lost' .their_nets:lost. cannot be imported"):
        layers_of("lost", (8, 8))
    with pytest.raises(ArgumentError, match="installed space 'other' .* allowed is a Space of that name"):
        cb.get_space("other")
    with pytest.raises(UnknownNameError, match="their-mini"):
        cb.get_space("theirs-mini")
    sys.modules.pop("their_nets")


def test_a_space_carries_its_layers_into_a_process_that_does_not_know_its_family():
    register_family("straight")(plain)
    space = Space("mine", "straight", (8,) * 7, (1, 8, 8), "digits", "mini")
    room._registered.clear()
    code = (
        "import pickle, sys; space = pickle.loads(sys.stdin.buffer.read());"
        "print(space.fingerprint, len(space.layers), space.flops('4444444'))"
    )
    there = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(space), capture_output=True, check=True)
    assert there.stdout.decode().split() == [space.fingerprint, "8", str(space.flops("4444444"))]


def test_the_fingerprint_says_what_the_networks_are_and_not_what_they_are_called():
    space = space_of(plain)
    renamed = dataclasses.replace(space, name="other", family="another.py:name")
    assert renamed.fingerprint == space.fingerprint
    other = dataclasses.replace(space, own_layers=check_layers("x", changed(3, kernel=1), (8, 8)))
    assert len({each.fingerprint for each in (space, other, space_of(deep), space_of(mixed))}) == 4
