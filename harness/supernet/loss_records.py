"""What the steps of a supernet's training tell about widths: pairs of an architecture and its training loss.

BCNet's search draws its first population around the widths that trained well (Eq. 13-15, `harness.searchers.prior`).
`harness.supernet.training.train_supernet` keeps the records of what a step reports with ``batch.record(arch, loss)``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


class LossRecords:
    """Architectures and losses in the order of training; part of a checkpoint, so that none is lost or there twice."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._archs: list[tuple[int, ...]] = []
        self._losses: list[Tensor] = []
        self._epoch_sizes: list[int] = []
        self._new: list[Tensor] = []

    def __len__(self) -> int:
        """Number of records."""
        return len(self._archs)

    def add(self, arch: Sequence[int], loss: Tensor) -> None:
        """Note an architecture and its loss, a scalar without gradient that stays on its device for now."""
        self._archs.append(tuple(arch))
        self._new.append(loss)

    def end_epoch(self) -> None:
        """Fetch the losses of an epoch from their device, all at once: a step must not wait for a GPU."""
        self._epoch_sizes.append(len(self._new))
        if self._new:
            self._losses.append(torch.stack(self._new).float().cpu())
        self._new = []

    def relative(self) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float64]]:
        """Architectures int8 (n, 7), and their losses float64 (n,) as multiples of the mean loss of their epoch.

        Losses fall during training, so that without this the best records would all be those of its end, whatever
        their widths.
        """
        losses = self._joined().double().numpy()
        epochs = np.repeat(np.arange(len(self._epoch_sizes)), self._epoch_sizes)
        means = np.bincount(epochs, losses) / np.maximum(self._epoch_sizes, 1)
        return np.array(self._archs, np.int8).reshape(-1, 7), losses / means[epochs]

    def state_dict(self) -> dict[str, Tensor]:
        """Everything up to the end of the last epoch, as tensors."""
        return {
            "archs": torch.tensor(self._archs, dtype=torch.int8).reshape(-1, 7),
            "losses": self._joined(),
            "epoch_sizes": torch.tensor(self._epoch_sizes, dtype=torch.int64),
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Become what `state_dict` kept."""
        self._archs = [tuple(arch) for arch in state["archs"].tolist()]
        self._losses = [state["losses"].cpu()]
        self._epoch_sizes = state["epoch_sizes"].tolist()
        self._new = []

    def _joined(self) -> Tensor:
        return torch.cat(self._losses) if self._losses else torch.zeros(0)
