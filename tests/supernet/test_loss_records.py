"""Losses of architectures: read from the device once per epoch, not once per step."""

import pytest
import torch

from harness.supernet.loss_records import LossRecords


def test_losses_leave_their_device_once_per_epoch(monkeypatch):
    copied, real = [], torch.Tensor.cpu
    for name in ("item", "tolist", "numpy"):
        monkeypatch.setattr(torch.Tensor, name, lambda self: pytest.fail("read one by one"))
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: copied.append(tuple(self.shape)) or real(self))
    records = LossRecords()
    for epoch in range(2):
        for step in range(5 + epoch):
            records.add((1 + step % 4,) * 7, torch.tensor(1.0 + step))
        records.end_epoch()
    assert copied == [(5,), (6,)]
    monkeypatch.undo()
    archs, relative = records.relative()
    assert archs[:, 0].tolist() == [1, 2, 3, 4, 1, 1, 2, 3, 4, 1, 2]
    assert relative[:5].tolist() == pytest.approx([1 / 3, 2 / 3, 1, 4 / 3, 5 / 3])
