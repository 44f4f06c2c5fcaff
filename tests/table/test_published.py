"""Download and import of the published results: only their exact bytes are taken, and failure leaves all as it was."""

import hashlib
import http.server
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import threading

import pytest
from conftest import PUBLISHED_FILES

import channel_bench as cb
from channel_bench.errors import CorruptFileError, DownloadError, MissingDataError, StorageError
from channel_bench.support.folders import default_data_dir
from channel_bench.table import published as published_module
from channel_bench.table.published import convert, install, table_path


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def copies(published_dir, tmp_path):
    """Links to the published files in a folder of their own, to be replaced by damaged ones."""
    folder = tmp_path / "copies"
    folder.mkdir()
    for name in PUBLISHED_FILES.values():
        (folder / name).symlink_to(published_dir / name)
    return folder


@pytest.fixture
def installed(published, tmp_path):
    """A copy of the tables that the session imported, to be changed."""
    folder = tmp_path / "installed"
    folder.mkdir()
    for space in PUBLISHED_FILES:
        shutil.copy(table_path(cb.get_space(space), published), folder)
    return folder


@pytest.fixture
def server(copies):
    """The published files over HTTP on this machine."""
    handler = lambda *arguments: http.server.SimpleHTTPRequestHandler(*arguments, directory=copies)  # noqa: E731
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_a_download_gives_the_same_tables_as_an_import(server, installed, tmp_path):
    install(base_url=server, data_dir=tmp_path / "fetched")
    assert contents(tmp_path / "fetched") == contents(installed)


def test_a_connection_that_breaks_off_is_a_download_error(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            connection, _ = listener.accept()
            with connection:
                connection.recv(10000)
                connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(DownloadError, match="IncompleteRead"):
            install(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", data_dir=tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.fixture
def endless():
    """A server whose answer never ends; gives its URL and how many bytes it has sent."""
    sent = [0]

    class Endless(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            try:
                while sent[0] < 10**9:
                    sent[0] += self.wfile.write(b"x" * 2**16)
            except OSError:
                pass

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endless) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", sent
        running.shutdown()


def test_an_answer_that_never_ends_is_left_when_it_is_longer_than_the_file(endless, tmp_path):
    url, sent = endless
    with pytest.raises(CorruptFileError, match=r"is not the published file: .*\(2,793,868 bytes or more\)"):
        install(base_url=url, data_dir=tmp_path / "data")
    assert sent[0] < 30 * 2**20 and not (tmp_path / "data").exists()


def test_a_download_that_takes_for_ever_is_given_up(endless, tmp_path, monkeypatch):
    monkeypatch.setattr(published_module, "MAX_DOWNLOAD_S", 0.0)
    with pytest.raises(DownloadError, match="bytes in 0 s"):
        install(base_url=endless[0], data_dir=tmp_path / "data")


@pytest.mark.parametrize("kind", ["device", "pipe", "long"])
def test_a_copy_is_a_regular_file_that_is_not_longer(copies, tmp_path, kind):
    path = copies / "Results_MobileNet.json"
    path.unlink()
    if kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(b" " * 10**7)
    with pytest.raises(CorruptFileError, match="pipe or device|allowed are at most"):
        install(source=copies, data_dir=tmp_path / "data")


def test_two_imports_give_the_same_bytes(copies, installed, tmp_path):
    install(source=copies, data_dir=tmp_path / "again")
    assert contents(tmp_path / "again") == contents(installed)


def test_a_server_that_is_not_there_or_lacks_the_file_is_a_download_error(server, copies, installed):
    before = contents(installed)
    (copies / "Results_ResNet.json").unlink()
    with pytest.raises(DownloadError, match="File not found; behind a firewall"):
        install(base_url=server, data_dir=installed)
    with pytest.raises(DownloadError, match="cannot download"):
        install(base_url="http://127.0.0.1:9", data_dir=installed)
    with pytest.raises(DownloadError, match="unknown url type"):
        install(base_url="nonsense", data_dir=installed)
    assert contents(installed) == before


@pytest.mark.parametrize("damage", ["truncated", "one byte", "empty", "missing"])
def test_other_bytes_are_refused_and_change_nothing(copies, installed, published_dir, damage):
    before = contents(installed)
    data = (published_dir / "Results_ResNet.json").read_bytes()
    path = copies / "Results_ResNet.json"
    path.unlink()
    if damage != "missing":
        path.write_bytes(
            {"truncated": data[:-1000], "one byte": data.replace(b"93.66", b"94.66", 1), "empty": b""}[damage]
        )
    with pytest.raises((CorruptFileError, MissingDataError), match="is not the published file|does not exist"):
        install(source=copies, data_dir=installed)
    assert contents(installed) == before


def edited(published_dir, change):
    results = json.loads((published_dir / "Results_ResNet.json").read_text())
    change(results)
    return json.dumps(results).encode()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.pop("4321234"), "16383 of the 16384 architectures; '4321234' is missing"),
        (lambda r: r.update({"5111111": r["1111111"]}), "'5111111' is not one of them"),
        (lambda r: r["1111111"].update(flops=1), "row of 1111111 is not what was published"),
        (lambda r: r["1111111"].update(acc=[1.0, 2.0]), "row of 1111111"),
        (lambda r: r["1111111"].update(acc=[101.0, 2.0, 3.0]), "row of 1111111"),
        (lambda r: r["1111111"].update(mean=90.0), "row of 1111111"),
        (lambda r: r["1111111"].pop("acc"), "row of 1111111"),
        (lambda r: r.update({"1111111": None}), "row of 1111111"),
    ],
)
def test_the_converter_checks_every_row_even_behind_the_checksum(published_dir, change, message):
    with pytest.raises(CorruptFileError, match=message):
        convert(cb.get_space("resnet"), edited(published_dir, change), "x")


@pytest.mark.parametrize("data", [b"", b"[]", b'{"1111111": {"acc"', b"\xff\xfe", b"3"])
def test_the_converter_refuses_what_is_not_the_object(data):
    with pytest.raises(CorruptFileError, match="not complete JSON|holds 0 of the 16384"):
        convert(cb.get_space("resnet"), data, "x")


def test_a_full_disk_leaves_the_old_tables_and_no_litter(copies, installed):
    # A limit on the size of files stands in for the full disk: the write fails in the middle in the same way.
    before = contents(installed)
    for name, data in before.items():
        (installed / name).write_bytes(data + b"old")
    before = contents(installed)
    finished = subprocess.run(
        [sys.executable, "-m", "channel_bench.cli", "download", "--from", copies, "--data-dir", installed],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
    )
    assert finished.returncode == 2
    assert finished.stderr.count("\n") == 1 and "cannot write" in finished.stderr and "unchanged" in finished.stderr
    assert contents(installed) == before


def test_a_folder_that_cannot_be_made_is_a_storage_error(copies, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot make folder"):
        install(source=copies, data_dir=tmp_path / "file" / "data")


def test_the_data_folder_is_configurable(monkeypatch, tmp_path):
    monkeypatch.setenv("CHANNEL_BENCH_DATA", str(tmp_path / "here"))
    assert default_data_dir() == tmp_path / "here"
    assert table_path(cb.get_space("resnet")).parent == tmp_path / "here"
    monkeypatch.delenv("CHANNEL_BENCH_DATA")
    assert default_data_dir().name == "channel-bench" and default_data_dir().is_absolute()


def test_the_checksums_in_the_code_are_those_of_the_files(published_dir):
    for space, (name, sha256) in published_module.FILES.items():
        data = (published_dir / name).read_bytes()
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (sha256, published_module.SIZES[space])
    assert os.path.commonprefix([published_module.BASE_URL, "https://raw.githubusercontent.com/xiusu/"])[-1] == "/"
