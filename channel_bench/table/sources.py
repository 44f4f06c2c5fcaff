"""Find and load a table: shipped with the package, downloaded, or a file of your own.

>>> load("resnet-mini").accuracy("4344424")
"""

from __future__ import annotations

from pathlib import Path

from channel_bench.errors import ArgumentError, MissingDataError, unknown_name
from channel_bench.space import Space, get_space, is_own, known_space
from channel_bench.support.reading import is_there
from channel_bench.table import published, shipped
from channel_bench.table.table import Table


def load(space: str | Space, table: str | Path | None = None, data_dir: str | Path | None = None) -> Table:
    """Load a table of a space.

    Args:
        space: The space, by name, by its TOML file, or a Space, which is then registered.
        table: Name of a table ("cifar10-published", "digits-16384x3"), path of a table file, or None for the space's
            default.
        data_dir: Folder of downloaded tables; default $CHANNEL_BENCH_DATA, else the user's cache folder.

    Returns:
        The table.

    Raises:
        UnknownNameError: No such space or table.
        MissingDataError: The table is not on this machine; the message says how to get it.
        CorruptFileError: The file is damaged.
        ArgumentError: The table is for another space.
    """
    path = find_table(space, table, data_dir)
    space = known_space(space)
    loaded = Table.read(path)
    if loaded.space != space:
        raise ArgumentError(f"table {str(table)!r} is of space {loaded.space.name!r}, not {space.name!r}")
    return loaded


def find_table(space: str | Space, table: str | Path | None = None, data_dir: str | Path | None = None) -> Path:
    """File that `load` reads; arguments and errors as there.

    Raises:
        UnknownNameError: No such space or table.
        MissingDataError: The table is not on this machine; the message says how to get it.
    """
    space = get_space(space)
    if table is not None and (Path(table).suffix or (str(table) and is_there(table))):
        return Path(table)
    if is_own(space):
        if table is not None:
            raise unknown_name("table", str(table), ["a path ending in .parquet"])
        return _own_table(space)
    if space.name in published.published_spaces() and table in (None, published.TABLE_NAME):
        path = published.table_path(space, Path(data_dir) if data_dir is not None else None)
        if not is_there(path):
            raise MissingDataError(
                f"table {published.TABLE_NAME!r} of space {space.name!r} is not in {str(path.parent)!r}: run"
                " 'channel-bench download'"
            )
        return path
    own = shipped.table_name(space) if space.name in shipped.SPACES else published.TABLE_NAME
    if space.name in shipped.SPACES and table in (None, own):
        return shipped.shipped_path(space)
    raise unknown_name("table", str(table), [own, "a path ending in .parquet"])


def _own_table(space: Space) -> Path:
    """The default table of a space of one's own.

    Raises:
        MissingDataError: It has none, or the file is not there; the message says how it comes to be.
    """
    file = space.table or f"{space.name}.parquet"
    make = f"'channel-bench build {space.name}.toml --out runs', then 'channel-bench collect runs -o {file}'"
    if space.table is None:
        raise MissingDataError(
            f"no table for space {space.name!r}: build one ({make}) and pass its file, or name it as table in the"
            " space's TOML file"
        )
    if not is_there(space.table):
        raise MissingDataError(f"table {space.table!r} of space {space.name!r} is not there: build it ({make})")
    return Path(space.table)
