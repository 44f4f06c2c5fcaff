"""Train one run, from images to its record: data, networks, the training step, and the programs that train.

`run` trains one network or a stack of them in PyTorch, `native` in compiled C++, `backends` picks between the two;
`step` has the training step, `models` the networks, `datasets` the images, `devices` the devices and threads.
"""

from __future__ import annotations

from channel_bench.errors import missing_package

try:
    import torch  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "torch":  # its installation is broken: what is missing there is the message
        raise
    raise missing_package("training", "torch", error) from None
