"""Files of weights: what ``torch.load(weights_only=True)`` reads, written whole or not at all, and read without trust.

    >>> write_archive(path, NETWORK, {"space": "resnet-mini"}, model.state_dict())
    >>> identity, tensors = read_archive(path, NETWORK)

A file holds ``kind`` and ``format``, the ``identity`` as JSON, and ``state``, tensors by name. Such files are passed
on, and their format is a zip with a pickle in it, which as such may run any code and ask for any amount of memory. So
`read_archive` does not call `torch.load`: it interprets some opcodes, makes tensors of the bytes that are there and of
nothing else, and knows no other object. What it holds in memory is a small multiple of the file's size.
"""

from __future__ import annotations

import collections
import io
import json
import math
import pickle
import pickletools
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from channel_bench.errors import CorruptFileError
from channel_bench.support.durable import write_atomic
from channel_bench.support.reading import MIB, parse_json, read_file, shown_path

NETWORK, SUPERNET = "channel-bench network", "channel-bench supernet"
FORMAT = 1
MAX_FILE_BYTES = 1024 * MIB
"""The widest network of the full spaces has less than 100 MB, a supernet of five groups less than 200 MB."""
MAX_ENTRIES = 4096
MAX_PICKLE_BYTES = 4 * MIB
"""Entries of the zip, one per tensor and some more; and its pickle: names, shapes, and the identity."""

_WRITERS = {NETWORK: "'channel-bench train --save'", SUPERNET: "'channel-harness rank --save'"}
_DTYPES = {"FloatStorage": torch.float32, "LongStorage": torch.int64, "CharStorage": torch.int8}
_OPCODES = frozenset(
    "PROTO STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE EMPTY_DICT EMPTY_TUPLE"
    " TUPLE TUPLE1 TUPLE2 TUPLE3 SETITEM SETITEMS GLOBAL REDUCE BINPERSID BINPUT LONG_BINPUT BINGET LONG_BINGET".split()
)
"""What `torch.save` writes for dictionaries of text, numbers and tensors."""


def write_archive(path: Path, kind: str, identity: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Write a file of weights, replacing one that is there.

    Args:
        path: The file.
        kind: What it holds: NETWORK or SUPERNET.
        identity: What the weights are of, as JSON can hold it.
        state: Tensors by name; float32, int64 or int8.

    Raises:
        StorageError: The file system refused; what was there is unchanged.
    """
    content = {
        "kind": kind,
        "format": FORMAT,
        "identity": json.dumps(identity, allow_nan=False),
        "state": {name: _plain(tensor) for name, tensor in state.items()},
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomic((path, buffer.getvalue()))


def _plain(tensor: Tensor) -> Tensor:
    """A contiguous copy on the CPU: no view, whose whole storage would be written, and no parameter."""
    return torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor.detach())


def read_archive(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read what `write_archive` wrote.

    Args:
        path: The file.
        kind: What it should hold.

    Returns:
        The identity, and tensors by name, on the CPU.

    Raises:
        MissingDataError: Nothing is there.
        CorruptFileError: It is damaged, of another program or of another kind; nothing in it was run.
    """
    data = read_file(path, "weights", MAX_FILE_BYTES)
    try:
        content = _unpack(data)
        if not isinstance(content, dict) or not isinstance(content.get("kind"), str):
            raise ValueError("it holds no weights of this package")
        if content["kind"] != kind:
            raise ValueError(f"it holds a {content['kind'][:40]}")
        if content.get("format") != FORMAT:
            raise ValueError(f"its format is {content.get('format')!r:.20}, this version reads {FORMAT}")
        identity, state = content.get("identity"), content.get("state")
        if not isinstance(identity, str) or not isinstance(state, dict):
            raise ValueError("identity or state is missing")
        if not all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in state.items()):
            raise ValueError("its state is not a tensor for each name")
        found = parse_json(identity, "its identity")
        if not isinstance(found, dict):
            raise ValueError("its identity is no object")
    except Exception as error:  # the readers of zip and pickle fail in many ways on bytes that are none
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise CorruptFileError(
            f"{shown_path(path)} is no {kind} ({reason}): allowed are files that {_WRITERS[kind]} wrote"
        ) from None
    return found, state


def _unpack(data: bytes) -> Any:
    """The content of a file in the format of `torch.save`."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        # Stored as they are, so that no entry is larger than the file; and not one stretch of bytes as many entries.
        if len(entries) > MAX_ENTRIES or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("its zip has too many or compressed entries")
        if sum(entry.file_size for entry in entries) > len(data):
            raise ValueError("its entries are larger than the file")
        pickles = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
        if len(pickles) != 1 or pickles[0].file_size > MAX_PICKLE_BYTES:
            raise ValueError("it has no data.pkl of reasonable size")
        folder = pickles[0].filename.removesuffix("data.pkl")
        names = {entry.filename for entry in entries}
        if f"{folder}byteorder" in names and archive.read(f"{folder}byteorder") != b"little":
            raise ValueError("its bytes are in big-endian order")
        pickled = archive.read(pickles[0])
        _check_opcodes(pickled)
        return _Unpickler(pickled, archive, f"{folder}data/").load()


def _check_opcodes(pickled: bytes) -> None:
    """Refuse what `torch.save` does not write for such content.

    Among what is left nothing takes more memory than its own bytes, once the numbers of memos, which size a table, are
    below the number of bytes.
    """
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name not in _OPCODES:
            raise ValueError(f"its pickle has the opcode {opcode.name}, which weights do not need")
        if opcode.name in ("BINPUT", "LONG_BINPUT") and int(argument or 0) > len(pickled):
            raise ValueError("its pickle numbers more objects than it has bytes")


class _Unpickler(pickle.Unpickler):
    """Makes dictionaries, text, numbers, and tensors of the entries of a zip; knows no other class or function."""

    def __init__(self, pickled: bytes, archive: zipfile.ZipFile, folder: str) -> None:
        """Read nothing yet."""
        super().__init__(io.BytesIO(pickled))
        self._archive, self._folder = archive, folder
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        """A stand-in of this module for each of the few names that tensors need."""
        if module == "torch" and name in _DTYPES:
            return _Storage(name)
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("collections", "OrderedDict"):
            return _no_hooks
        raise pickle.UnpicklingError(f"it asks for {module[:40]}.{name[:40]}, which is not run")

    def persistent_load(self, pid: Any) -> Tensor:
        """The elements of an entry of the zip, one-dimensional."""
        kind, storage, key, _, count = pid
        if kind != "storage" or not isinstance(storage, _Storage) or not isinstance(key, str) or type(count) is not int:
            raise ValueError("a tensor's storage is not described as such")
        if key not in self._storages:
            data = bytearray(self._archive.read(self._folder + key))
            empty = torch.empty(0, dtype=storage.dtype)
            self._storages[key] = torch.frombuffer(data, dtype=storage.dtype) if data else empty
        found = self._storages[key]
        if found.dtype != storage.dtype or len(found) != count:
            raise ValueError(f"a tensor's storage has {len(found)} elements, and should have {count}")
        return found


class _Storage:
    """A name that stands for an element type."""

    def __init__(self, name: str) -> None:
        """Look it up."""
        self.dtype = _DTYPES[name]


def _no_hooks() -> Mapping[str, Any]:
    """The empty OrderedDict that stands for a tensor's hooks."""
    return collections.OrderedDict()


def _tensor(
    storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any, hooks: Any, metadata: Any = None
) -> Tensor:
    """A contiguous tensor that fills its storage."""
    if not isinstance(storage, Tensor) or not isinstance(size, tuple) or not isinstance(stride, tuple):
        raise ValueError("a tensor is not described as such")
    if not all(type(length) is int and length >= 0 for length in size):
        raise ValueError("a tensor has no shape")
    contiguous = tuple(math.prod(max(length, 1) for length in size[place + 1 :]) for place in range(len(size)))
    if offset != 0 or stride != contiguous or math.prod(size) != len(storage) or requires_grad or hooks or metadata:
        raise ValueError("a tensor is not a plain contiguous one")
    return storage.view(size)
