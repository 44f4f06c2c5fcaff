"""The ResNet family of Channel-Bench-Macro (Su et al., BCNetV2; public training code).

| slot | what it sets | where |
|---|---|---|
| 0 | stem output, so the skip line of stage 1 | half of the input's size |
| 1, 2 | hidden channels of blocks 1 and 2 | stage 1 |
| 3 | hidden channels of block 3, which halves the size again | |
| 4 | block 3 output, so the skip line of stage 2 and the classifier's input | stage 2, a quarter of the input's size |
| 5, 6 | hidden channels of blocks 4 and 5 | stage 2 |

Blocks 1, 2, 4, 5: x = relu(x + block(x)). Block 3 has **no skip connection at all**: x = relu(block(x)).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from channel_bench.training.models.blocks import run_block
from channel_bench.training.models.precision import classify


def _block(inputs: int, hidden: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, hidden, 3, stride, 1, bias=False),
        nn.BatchNorm2d(hidden),
        nn.ReLU(inplace=True),
        nn.Conv2d(hidden, outputs, 3, 1, 1, bias=False),
        nn.BatchNorm2d(outputs),
    )


class ResNet(nn.Module):
    """One network of the family.

    Args:
        channels: Channels of the seven slots.
        input_channels: Channels of the input image.
        num_classes: Outputs of the linear layer.
    """

    def __init__(self, channels: Sequence[int], input_channels: int, num_classes: int) -> None:
        """Build the layers; weights are PyTorch's defaults until `initialise`."""
        super().__init__()
        c0, c1, c2, c3, c4, c5, c6 = channels
        self.stem = nn.Sequential(
            nn.Conv2d(input_channels, c0, 3, 2, 1, bias=False), nn.BatchNorm2d(c0), nn.ReLU(inplace=True)
        )
        self.block1 = _block(c0, c1, c0)
        self.block2 = _block(c0, c2, c0)
        self.block3 = _block(c0, c3, c4, stride=2)
        self.block4 = _block(c4, c5, c4)
        self.block5 = _block(c4, c6, c4)
        self.classifier = nn.Linear(c4, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, num_classes) of images (batch, input_channels, height, width)."""
        x = run_block(self.stem, images)
        x = run_block(self.block1, x, x, relu=True)
        x = run_block(self.block2, x, x, relu=True)
        x = run_block(self.block3, x, relu=True)
        x = run_block(self.block4, x, x, relu=True)
        x = run_block(self.block5, x, x, relu=True)
        return classify(x, self.classifier)
