"""One self-contained HTML page out of a template, a style, a script and data; the caller decides what they hold.

    >>> pages = Path(__file__).parent / "pages"                 # has explore.html, explore.css and explore.js
    >>> text = assemble(pages, "explore", title="resnet", data={"mean": pack_array(means, "<f8")})

A template has places {{title}}, {{style}}, {{script}} and {{data}}, the last one alone in an element
``<script id="data" type="application/json">``, from which the page's script reads it with ``JSON.parse``. What all
pages of this project share, look and small functions, is in pages/common.css and pages/common.js (`common_parts`).
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from channel_bench.errors import ArgumentError

COMMON = Path(__file__).parent / "pages"


def assemble(
    folder: Path, name: str, *, title: str, data: Mapping[str, Any], more: Mapping[str, str] | None = None
) -> str:
    """The page as text.

    Args:
        folder: Where the parts NAME.html (the template), NAME.css and NAME.js lie.
        name: Of the page.
        title: What the browser's tab says; any text, it is escaped.
        data: What the script gets; see `embedded_json`.
        more: Text for further places of the template, put in as it is.

    Raises:
        ValueError: As `embedded_json`.
    """
    template, style, script = (
        (folder / f"{name}.{ending}").read_text(encoding="utf-8") for ending in ("html", "css", "js")
    )
    values = {"title": html.escape(title), "style": style, "script": script, "data": embedded_json(data)}
    return fill(template, {**values, **(more or {})})


def common_parts() -> dict[str, str]:
    """What pages share, for `assemble`: "common_style" (themes, controls, tables) and "common_script" (`common`)."""
    return {
        "common_style": (COMMON / "common.css").read_text(encoding="utf-8"),
        "common_script": (COMMON / "common.js").read_text(encoding="utf-8"),
    }


def fill(template: str, values: Mapping[str, str]) -> str:
    """Put values into the places {{name}} of a template, all in one pass: braces within a value stay as they are.

    Args:
        template: Every name between double braces must be among the values, and every value must have a place.
        values: Text by name, put in as it is; what is not meant as markup has to be escaped before.
    """
    places = re.compile(r"{{(\w+)}}")
    assert set(places.findall(template)) == set(values), "the places of a template are not those that are filled"
    return places.sub(lambda place: values[place[1]], template)


def embedded_json(data: Any) -> str:
    """JSON that can stand in a ``<script>`` element: ASCII without "<", so that nothing in it ends the element.

    Raises:
        ValueError: The data hold NaN or infinity, which JSON does not have; None stands for what is missing. Arrays
            may hold them, see `pack_array`.
        TypeError: The data hold what JSON does not have.
    """
    return json.dumps(data, allow_nan=False).replace("<", "\\u003c")


def pack_array(values: npt.ArrayLike, dtype: str) -> dict[str, str]:
    """An array for `embedded_json`, exact to the bit: {"dtype": ..., "base64": its values in C order}.

    Args:
        values: Any shape; the shape is not kept.
        dtype: What to send the values as, byte order included: "<f8", "<i4". Scripts read typed arrays from
            little-endian bytes. NaN and infinity are possible in floats.
    """
    return {"dtype": dtype, "base64": base64.b64encode(np.asarray(values, dtype).tobytes()).decode()}


def check_page_path(path: Path) -> None:
    """Refuse a file name that browsers would not take for a page.

    Raises:
        ArgumentError: The path does not end in .html or .htm.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise ArgumentError(f"page {str(path)!r} must end in .html")
