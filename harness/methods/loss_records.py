"""What the steps of a supernet's training tell about widths: one (architecture, training loss) pair per step.

BCNet's search draws its first population around the widths that trained well (Eq. 13-15, `harness.searchers.prior`).
"""

from __future__ import annotations

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

    def add(self, epoch: int, arch: tuple[int, ...], loss: Tensor) -> None:
        """Note a step; the loss is a scalar that may stay on its device."""
        self._archs.append(arch)
        self._losses.append(loss)
        self._epoch_sizes += [0] * (epoch + 1 - len(self._epoch_sizes))
        self._epoch_sizes[epoch] += 1

    def relative(self) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float64]]:
        """Architectures int8 (n, 7), and their losses float64 (n,) as multiples of the mean loss of their epoch.

        Losses fall during training, so that without this the best records would all be those of its end, whatever
        their widths.
        """
        losses = self._stacked().double().numpy()
        epochs = np.repeat(np.arange(len(self._epoch_sizes)), self._epoch_sizes)
        means = np.bincount(epochs, losses) / np.maximum(self._epoch_sizes, 1)
        return np.array(self._archs, np.int8).reshape(-1, 7), losses / means[epochs]

    def state_dict(self) -> dict[str, Tensor]:
        """Everything, as tensors."""
        return {
            "archs": torch.tensor(self._archs, dtype=torch.int8).reshape(-1, 7),
            "losses": self._stacked(),
            "epoch_sizes": torch.tensor(self._epoch_sizes),
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Become what `state_dict` kept."""
        self._archs = [tuple(arch) for arch in state["archs"].tolist()]
        self._losses = list(state["losses"].cpu().unbind())
        self._epoch_sizes = state["epoch_sizes"].tolist()

    def _stacked(self) -> Tensor:
        return torch.stack([loss.float().cpu() for loss in self._losses]) if self._losses else torch.zeros(0)
