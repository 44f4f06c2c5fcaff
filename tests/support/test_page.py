"""Pages out of parts: filled in one pass, data that cannot break out, arrays to the bit."""

import base64
import json

import numpy as np
import pytest

from channel_bench.support.page import assemble, embedded_json, fill, pack_array


def test_values_are_put_in_as_they_are_and_their_braces_are_no_places():
    template = "<b>{{one}}</b> { {one} } {{ one }} {{two}}{{one}}"
    assert fill(template, {"one": "{{two}}\\1", "two": "2"}) == "<b>{{two}}\\1</b> { {one} } {{ one }} 2{{two}}\\1"


@pytest.mark.parametrize("values", [{}, {"one": "1", "two": "2"}, {"two": "2"}])
def test_a_template_and_its_values_have_the_same_names(values):
    with pytest.raises(AssertionError, match="places of a template"):
        fill("{{one}}", values)


def test_embedded_data_are_the_same_data_and_end_no_element():
    data = {"</script>": ["<!--", "\u2028 \u00e9", None, 0.1, 2**53]}
    text = embedded_json(data)
    assert json.loads(text) == data and "<" not in text and text.isascii()
    for value in (np.nan, np.inf):
        with pytest.raises(ValueError, match="not JSON compliant"):
            embedded_json([value])


@pytest.mark.parametrize("dtype", ["<f8", "<i4", ">i2"])
def test_an_array_arrives_in_c_order_and_the_byte_order_that_was_asked_for(dtype):
    values = np.arange(6).reshape(2, 3).T
    packed = pack_array(values, dtype)
    assert np.frombuffer(base64.b64decode(packed["base64"]), packed["dtype"]).tolist() == [0, 3, 1, 4, 2, 5]
    exact = [0.1, np.nan, -np.inf, 5e-324]
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(pack_array(exact, "<f8")["base64"]), "<f8"), exact)


def test_a_page_is_made_of_the_parts_of_any_folder(tmp_path):
    parts = {"html": "<title>{{title}}</title>{{style}}|{{script}}|{{data}}", "css": "p {}", "js": "`{{title}}`"}
    for ending, text in parts.items():
        (tmp_path / f"mine.{ending}").write_text(text)
    page = assemble(tmp_path, "mine", title="a < b", data={"x": "{{style}}"})
    assert page == '<title>a &lt; b</title>p {}|`{{title}}`|{"x": "{{style}}"}'
    (tmp_path / "mine.html").write_text(parts["html"] + "|{{own}}")
    assert assemble(tmp_path, "mine", title="a < b", data={"x": "{{style}}"}, more={"own": "<b>"}) == page + "|<b>"
