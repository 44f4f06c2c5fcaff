"""Encodings round-trip, and what is not an architecture is refused with a message that helps."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import channel_bench as cb
from channel_bench.errors import ArchError, ArgumentError, UnknownNameError

SPACES = [cb.get_space(name) for name in cb.list_spaces()]
FULL = cb.get_space("resnet")
indices = st.integers(0, 16383)
spaces = st.sampled_from(SPACES)


@given(spaces, indices)
def test_every_encoding_reads_back_to_the_same_architecture(space, index):
    arch = space[index]
    text = space.text(arch)
    encodings = [
        arch,
        list(arch),
        np.array(arch, np.int8),
        np.array(arch, np.int64),
        text,
        np.str_(text),
        ",".join(text),
        int(text),
        np.int64(text),
        index,
        np.int32(index),
        pd.Series(arch),
        pd.Index(arch),
        [np.array(digit) for digit in arch],
        np.array(arch, object),
        text.encode(),
        np.bytes_(text),
        {"digits": arch},
        {"ratios": space.ratios(arch)},
        {"channels": space.channels(arch)},
        {"channels": np.array(space.channels(arch))},
        {"index": index},
    ]
    if space.name != "resnet-mini":
        encodings += [mark.join(numbers) for mark in "-:|_" for numbers in (text, map(str, space.channels(arch)))]
    if text != "4444444":  # seven times 1.0 could be digits, too
        ratios = space.ratios(arch)
        encodings += [ratios, np.array(ratios, np.float32), ",".join(map(str, ratios)), pd.Series(ratios)]
    assert [space.arch(encoding) for encoding in encodings] == [arch] * len(encodings)
    assert space.index(arch) == space.index(text) == index


@given(st.sampled_from([space for space in SPACES if space.name != "resnet-mini"]), indices)
def test_bare_channels_read_back_where_they_cannot_look_like_digits(space, index):
    assert space.index(space.channels(index)) == index
    assert space.index(",".join(map(str, space.channels(index)))) == index


@given(st.lists(indices, min_size=1, max_size=4))
def test_bare_channels_of_a_space_as_narrow_as_digits_are_never_guessed(rows):
    space = cb.get_space("resnet-mini")
    for row in rows:
        channels = space.channels(row)
        if max(channels) <= 4:
            assert space.arch(channels) == channels  # digits, as documented
        else:
            with pytest.raises(ArchError, match="write channels as {'channels': values}"):
                space.arch(channels)
    assert space.index({"channels": [space.channels(row) for row in rows]}).tolist() == rows


@given(indices, st.sampled_from("-:|_"))
def test_marks_between_numbers_that_could_be_digits_and_channels_are_never_guessed(index, mark):
    space = cb.get_space("resnet-mini")
    for kind, values in (("digits", space.arch(index)), ("channels", space.channels(index))):
        text = mark.join(map(str, values))
        other = "channels" if kind == "digits" else "digits"
        try:
            space.arch({other: values})
        except ArchError:
            assert space.index(text) == index
        else:
            with pytest.raises(ArchError, match="could be digits and channels of space 'resnet-mini'"):
                space.arch(text)


def test_a_column_that_pandas_reads_as_integers_is_a_batch():
    import io

    frame = pd.read_csv(io.StringIO("arch,score\n4344424,1\n1111111,2\n"))
    assert frame["arch"].dtype == np.int64
    assert FULL.index(frame["arch"]).tolist() == [15351, 0]
    assert FULL.flops(frame["arch"]).tolist() == [FULL.flops("4344424"), FULL.flops("1111111")]


def test_costs_are_those_of_the_layers_and_cannot_be_damaged_by_a_caller():
    from channel_bench.space import cost

    for space in SPACES:
        widths = [*space.channel_counts(space.archs()).T, space.input_shape[0], space.num_classes]
        for name in ("flops", "params"):
            expected = getattr(cost, name)(space.layers, widths)
            counts = getattr(space, name)()
            assert (counts == expected).all() and counts.dtype == np.int64
            counts[:] = 0
            assert (getattr(space, name)() == expected).all()
            assert getattr(space, name)(["1111114"]).tolist() == [expected[3]]
            assert isinstance(getattr(space, name)("1111114"), int)


def test_seven_integers_1_to_4_are_digits_even_where_channels_would_fit():
    space = cb.get_space("resnet-mini")
    assert space.channels("1111111") == (2, 2, 2, 4, 4, 4, 4)
    assert space.arch((2, 2, 2, 4, 4, 4, 4)) == (2, 2, 2, 4, 4, 4, 4)
    assert space.arch({"channels": (2, 2, 2, 4, 4, 4, 4)}) == (1, 1, 1, 1, 1, 1, 1)


@given(spaces, st.lists(indices, min_size=1, max_size=20))
def test_batches_of_every_kind_agree_with_one_at_a_time(space, rows):
    archs = space.archs()[rows]
    texts = [space.text(row) for row in rows]
    batches = [
        archs,
        archs.astype(np.uint64),
        [tuple(arch) for arch in archs.tolist()],
        texts,
        np.array(texts),
        np.array(texts, object),
        pd.Series(texts),
        pd.Series(texts).astype("int64"),
        [int(text) for text in texts],
        pd.DataFrame(archs, columns=[f"slot{slot}" for slot in range(7)]),
        pd.DataFrame(archs.astype(object)),
        np.array(texts, "S7"),
        [text.encode() for text in texts],
        {"channels": [space.channels(row) for row in rows]},
        {"channels": np.array([space.channels(row) for row in rows])},
        {"ratios": [space.ratios(row) for row in rows]},
        {"index": np.array(rows)},
        {"index": rows},
    ]
    if 16383 not in rows:
        batches.append(np.array([space.ratios(row) for row in rows]))
    for batch in batches:
        assert space.index(batch).tolist() == rows
        assert space.digits(batch).tolist() == archs.tolist()


def test_index_order_is_lexicographic():
    assert FULL.texts() == sorted(FULL.texts())
    assert [FULL.text(arch) for arch in FULL] == FULL.texts()
    assert (FULL.archs() == np.array(list(FULL))).all()
    assert FULL.index("1111111") == 0
    assert FULL.index("4444444") == len(FULL) - 1 == 16383


def test_all_archs_cannot_be_damaged_by_a_caller():
    with pytest.raises(ValueError, match="read-only"):
        FULL.archs()[0, 0] = 4


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("123", "'123' is not an architecture: allowed is text of 7 digits 1..4, such as '4344424'"),
        ("", "'' is not an architecture"),
        ("4344425", "'4344425' is not an architecture"),
        ("4340424", "'4340424' is not an architecture"),
        ("１２３４１２３", "is not an architecture"),
        ("a,b,c", "between commas, only integers and ratios"),
        ("64,64", "an architecture has 7 slots, got 2 values [64, 64]"),
        (16384, "index 16384 is out of range: allowed are 0..16383"),
        (-1, "index -1 is out of range: allowed are 0..16383"),
        ({"index": 4344424}, "for digits pass the text '4344424'"),
        (4344425, "4344425 is not an architecture: index 4344425 is out of range"),
        (10**7 + 1, "and as digits allowed are 7 of 1..4, such as 4344424"),
        ("64-64:64-128-128-128-128", "between dashes, only integers and ratios are allowed"),
        ("-1-1-1-1-1-1-1", "between dashes"),
        ("|4|3|4|4|4|2|4|", "between bars"),
        ("64:64:64:128:128:128", "got 6 values"),
        ("0:3:1:0:2:2:1", "digits start at 1"),
        ("3033013", "digits start at 1, which is a quarter of the width: if yours start at 0, add 1 to each"),
        (3033013, "digits start at 1"),
        (33013, "digits start at 1"),
        ([0, 3, 3, 0, 1, 1, 2], "digit 0 of slot 0 is not one of 1, 2, 3, 4; digits start at 1"),
        (np.zeros(7, int), "digits start at 1"),
        ((1, 2, 3), "an architecture has 7 slots, got 3 values [1, 2, 3]"),
        ([1.0] * 7, "write {'ratios': values} or {'digits': values}"),
        (np.ones(7), "7 times 1.0 could mean the ratios of the widest or the digits of the narrowest"),
        (pd.Series([1, 2, 3]), "got 3 values"),
        (pd.DataFrame([[1] * 7]), "is not an architecture"),
        (range(1, 8), "range(1, 8) is not an architecture"),
        ({1, 2, 3}, "is not an architecture"),
        (b"434", "'434' is not an architecture"),
        (10**5000, "index an integer of 16610 bits is out of range"),
        ("２５６,192,256,512,512,256,512", "between commas"),
        ("5_12,192,256,512,512,256,512", "between commas"),
        ({"channels": [64, [2, 3]]}, "got 2 values"),
        ((5, 1, 1, 1, 1, 1, 1), "digit 5 of slot 0 is not one of 1, 2, 3, 4"),
        ((1, 1, 1, 0, 1, 1, 1), "digit 0 of slot 3 is not one of 1, 2, 3, 4"),
        ((100, 256, 256, 512, 512, 512, 512), "channel 100 of slot 0 is not one of 64, 128, 192, 256"),
        ((256, 256, 256, 512, 512, 512, 500), "channel 500 of slot 6 is not one of 128, 256, 384, 512"),
        ([0.3] * 7, "ratio 0.3 of slot 0 is not one of 0.25, 0.5, 0.75, 1.0"),
        ([1.0] * 6 + [float("nan")], "ratio nan of slot 6"),
        ([4.0] * 7, "ratio 4.0 of slot 0"),
        ((True,) * 7, "value True of slot 0 is not a number"),
        ((1, None, 1, 1, 1, 1, 1), "value None of slot 1 is not a number"),
        (True, "True is not an architecture"),
        (None, "None is not an architecture: allowed are 7 digits 1..4"),
        (4.5, "4.5 is not an architecture"),
        ({"widths": [1] * 7}, "unknown encoding 'widths': allowed are 'digits', 'ratios', 'channels', 'index'"),
        ({"index": 1.5}, "index 1.5 is not an integer"),
        ({"index": 99999}, "index 99999 is out of range"),
        ({"digits": 1}, "'digits' of an architecture must be 7 numbers, got 1"),
        ({"digits": [1] * 7, "index": 1}, "exactly one key"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_not_an_architecture_is_refused(value, message):
    with pytest.raises(ArchError) as caught:
        FULL.arch(value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert value not in FULL


@pytest.mark.parametrize("index", [2.7, "4344424", "1", True, None, -1, 16384])
def test_a_space_is_indexed_by_integers_only(index):
    with pytest.raises(ArchError, match="index .* is (not an integer|out of range)"):
        FULL[index]


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (["1111111", "11111x1"], "row 1: '11111x1' is not an architecture"),
        (np.array([[1] * 7, [5] * 7]), "row 1: digit 5 of slot 0"),
        (np.ones((3, 6), int), "row 0: an architecture has 7 slots"),
        ({"index": np.array([3, -1])}, "row 1: index -1 is out of range"),
        ({"index": [0.5]}, "row 0: index 0.5 is not an integer"),
        (["1111111", 5], "row 1: write a batch of indices as {'index': values}, got 5"),
        ({"channels": [[1], [2, 3]]}, "row 0: an architecture has 7 slots, got 1 values"),
        ({"channels": [[64] * 7]}, "row 0: channel 64 of slot 3"),
        ([4344424, 5], "row 1: write a batch of indices as {'index': values}, got 5"),
        ([5, 4344424], "an architecture has 7 slots, got 2 values [5, 4344424]"),
        ([4344424, 4344425], "row 1: '4344425' is not an architecture"),
        (pd.Series([4344424, 10**8]), "row 1: 100000000 is not an architecture"),
        (pd.DataFrame({"arch": ["4344424"]}), "row 0: an architecture has 7 slots, got 1 values"),
        (pd.DataFrame([[1] * 7], columns=[f"slot{6 - slot}" for slot in range(7)]), "not in the order of the slots"),
        (np.array([[0, 1, 2, 3, 0, 1, 2]]), "row 0: digit 0 of slot 0 is not one of 1, 2, 3, 4; digits start at 1"),
    ],
)
def test_the_first_bad_row_of_a_batch_is_named(batch, message):
    with pytest.raises(ArchError) as caught:
        FULL.index(batch)
    assert message in str(caught.value)


def test_an_empty_batch_has_no_indices():
    assert FULL.index([]).shape == (0,)


def test_neighbors_differ_by_one_step_in_one_slot():
    assert len(FULL.neighbors("1111111")) == 7
    assert len(FULL.neighbors("2222222")) == 14
    for neighbor in FULL.neighbors("4312341"):
        assert np.abs(np.array(neighbor) - FULL.arch("4312341")).sum() == 1


def test_samples_are_distinct_and_follow_the_generator():
    first = FULL.sample(500, np.random.default_rng(1))
    assert len(np.unique(FULL.index(first))) == 500
    assert (first == FULL.sample(500, np.random.default_rng(1))).all()
    with pytest.raises(ArgumentError, match="cannot sample 16385 distinct architectures"):
        FULL.sample(16385, np.random.default_rng(1))


def test_spaces_are_told_apart_by_fingerprint_and_found_by_name():
    assert len({space.fingerprint for space in SPACES}) == len(SPACES) == 5
    assert cb.get_space(FULL) is FULL
    with pytest.raises(UnknownNameError, match="did you mean 'resnet'"):
        cb.get_space("resnt")
    with pytest.raises(UnknownNameError):
        cb.get_space(["resnet"])


@pytest.mark.parametrize("name", cb.list_spaces())
def test_a_space_with_given_channels_has_their_networks(name):
    space = cb.get_space(name)
    for arch in ("1111111", "4444444", "1423314"):
        other = space.with_channels(space.channels(arch))
        assert other.channels("1111111") == space.channels(arch) and other.layers == space.layers
        assert (other.flops("1111111"), other.params("1111111")) == (space.flops(arch), space.params(arch))
        assert other.name != space.name
        assert (other.fingerprint == space.fingerprint) == (arch == "1111111")
    odd = space.with_channels([3, 1, 5, 7, 9, 11, 13])
    assert odd.channels("1111111") == (3, 1, 5, 7, 9, 11, 13)


@pytest.mark.parametrize("channels", [[1] * 6, [1] * 8, [0] + [1] * 6, [1.5] + [1] * 6, [True] * 7, ["a"] * 7])
def test_channels_of_no_network_are_refused(channels):
    with pytest.raises(ArgumentError, match="allowed are 7 integers >= 1"):
        cb.get_space("resnet-mini").with_channels(channels)
