"""EPE-NAS: how alike a network reacts to the images of one class.

Lopes, Alirezazadeh and Alexandre, ICANN 2021, arXiv 2102.08099, Eq. 3 to 5: the gradients of the summed logits by the
pixels, a row for each image; for each class c the correlation matrix of its rows, and

    E_c = sum over i, j of log(|corr_ij| + k),   k = 1e-5;   score = sum over classes of |E_c|.

With more than 100 classes E_c is divided by the number of the class's images, and the score is the sum over pairs of
classes of |E_c - E_d|, divided by the number of classes. Classes without an image in the batch are left out.
"""

from __future__ import annotations

import numpy as np

from harness.method import register
from harness.methods.zero_cost import Batch, RandomNet, ZeroCost, correlations_of, input_gradients

OFFSET = 1e-5
MANY_CLASSES = 100


@register(
    "epe_nas", paper="Lopes et al., ICANN 2021, arXiv 2102.08099", summary="zero-cost: correlations within classes"
)
class EpeNas(ZeroCost):
    """Correlations of input gradients within classes."""

    passes = 3

    def measure(self, net: RandomNet, batch: Batch) -> float:
        """See `epe_nas`."""
        return epe_nas(net, batch)


def epe_nas(net: RandomNet, batch: Batch) -> float:
    """Sum over classes of |E_c|; with many classes, of their differences."""
    rows, labels = input_gradients(net, batch), batch.labels.cpu().numpy()
    by_class = []
    is_many = net.space.num_classes > MANY_CLASSES
    for label in np.unique(labels):
        logarithms = np.log(np.abs(correlations_of(rows[labels == label])) + OFFSET)
        by_class.append(logarithms.sum() / (len(logarithms) if is_many else 1))
    sums = np.array(by_class)
    if not is_many:
        return float(np.abs(sums).sum())
    return float(np.triu(np.abs(sums[:, None] - sums)).sum() / len(sums))
