"""GraSP: what taking weights away would do to the flow of gradients.

Wang, Zhang and Grosse, ICLR 2020, arXiv 2002.07376, Eq. 8: S(-w) = -w H g, with g the gradient of the loss on one batch
and H its Hessian, there to prune by. As a score of whole networks, its sum over weights, with the sign as it is
(Abdelfattah et al., ICLR 2021, arXiv 2101.08134, Eq. 1). H g is the gradient of g g', g' a copy that is held fixed.
"""

from __future__ import annotations

from harness.method import register
from harness.methods.zero_cost import Batch, RandomNet, ZeroCost


@register("grasp", paper="Wang et al., ICLR 2020, arXiv 2002.07376", summary="zero-cost: sum of -w H g")
class Grasp(ZeroCost):
    """Gradient signal preservation."""

    passes = 9  # the second backward pass goes back through the first one and through the forward pass

    def measure(self, net: RandomNet, batch: Batch) -> float:
        """See `grasp`."""
        return grasp(net, batch)


def grasp(net: RandomNet, batch: Batch) -> float:
    """Sum over weights of -w (H g)."""
    gradients = net.gradients(net.loss(batch), create_graph=True)
    flow = sum(((each * each.detach()).sum() for each in gradients), start=net.bias.new_zeros(()))
    products = net.gradients(flow)
    return -sum((weight * each).sum().item() for weight, each in zip(net.weights, products, strict=True))
