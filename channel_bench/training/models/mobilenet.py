"""The MobileNet family of Channel-Bench-Macro (Su et al., BCNetV2; public training code).

| slot | what it sets | where |
|---|---|---|
| 0 | stem output, so the skip line of stage 1 | half of the input's size |
| 1, 2 | expanded channels of blocks 1 and 2 | stage 1 |
| 3 | expanded channels of block 3, whose depthwise convolution halves the size again | |
| 4 | block 3 output, so the skip line of stage 2 | stage 2, a quarter of the input's size |
| 5 | expanded channels of block 4 | stage 2 |
| 6 | output convolution, so the classifier's input | stage 2 |

Blocks 1, 2, 4: x = x + block(x), with no activation after the sum. Block 3 has no skip. All activations are ReLU,
not ReLU6.
The paper's Table 2 leaves out the 1x1 output convolution; the published code and the published costs have it.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from channel_bench.training.models.blocks import run_block
from channel_bench.training.models.precision import DepthwiseConv2d, classify


def _block(inputs: int, expanded: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, expanded, 1, bias=False),
        nn.BatchNorm2d(expanded),
        nn.ReLU(inplace=True),
        DepthwiseConv2d(expanded, expanded, 3, stride, 1, groups=expanded, bias=False),
        nn.BatchNorm2d(expanded),
        nn.ReLU(inplace=True),
        nn.Conv2d(expanded, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
    )


class MobileNet(nn.Module):
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
        self.out = nn.Sequential(nn.Conv2d(c4, c6, 1, bias=False), nn.BatchNorm2d(c6), nn.ReLU(inplace=True))
        self.classifier = nn.Linear(c6, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, num_classes) of images (batch, input_channels, height, width)."""
        x = run_block(self.stem, images)
        x = run_block(self.block1, x, x)
        x = run_block(self.block2, x, x)
        x = run_block(self.block3, x)
        x = run_block(self.block4, x, x)
        return classify(run_block(self.out, x), self.classifier)
