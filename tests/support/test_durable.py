"""Marks of folders; that files are written whole or not at all is tested where they are written."""

from pathlib import Path

import pytest

from channel_bench.errors import StorageError
from channel_bench.support.durable import marked


def test_a_folder_is_marked_for_the_time_of_a_block(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConnectionError, match="of the block"), marked(Path("new/folder")) as mark:
        assert mark.is_absolute() and [*Path("new/folder").iterdir()] == [Path("new/folder") / mark.name]
        with marked(Path("new/folder")) as other:
            assert other != mark
        raise ConnectionError("of the block, and not of the file system")
    assert not [*Path("new/folder").iterdir()]
    Path("file").write_text("")
    with pytest.raises(StorageError, match="cannot make folder 'file'"), marked(Path("file")):
        pass
