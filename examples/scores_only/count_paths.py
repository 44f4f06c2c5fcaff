"""Scores without any code of channel-bench: count the paths of every network, write them as CSV.

    python examples/scores_only/count_paths.py resnet-mini paths.csv
    channel-harness score paths.csv --space resnet-mini

The score is the logarithm of the number of paths that end in one output, from channel to channel and through every tap
of every filter: what the network gives for an image of all ones if all weights are one, nothing is normalised and
images have no border. It is the path norm of Neyshabur, Tomioka and Srebro (COLT 2015) for such weights, and the
objective of SynFlow (Tanaka et al., NeurIPS 2020, arXiv 2006.05467). Closed form, no training, no images; only
Python's standard library, because a file is all that `channel-harness score` wants.
"""

import csv
import itertools
import math
import sys

# Channels of the seven slots at full width, channels of the image, family (docs/reference/spaces.md).
SPACES = {
    "resnet": ((256, 256, 256, 512, 512, 512, 512), 3, "resnet"),
    "mobilenet": ((128, 768, 768, 768, 256, 1536, 1024), 3, "mobilenet"),
    "resnet-mini": ((8, 8, 8, 16, 16, 16, 16), 1, "resnet"),
    "mobilenet-mini": ((8, 24, 24, 24, 12, 48, 32), 1, "mobilenet"),
    "mobilenet-mini-placed": ((16, 8, 8, 24, 24, 8, 48), 1, "mobilenet"),
}
TAPS = 9  # of a 3x3 filter


def num_paths(family, channels, image_channels):
    """Paths to one output of a network with these channels in its seven slots, as an exact integer."""
    c0, c1, c2, c3, c4, c5, c6 = channels
    stem = TAPS * image_channels
    if family == "resnet":
        # A block multiplies by its own paths; with a skip connection, by one more. Block 3 has none.
        two = TAPS**2
        stage1 = (1 + two * c0 * c1) * (1 + two * c0 * c2)
        stage2 = (1 + two * c4 * c5) * (1 + two * c4 * c6)
        return stem * stage1 * (two * c0 * c3) * stage2 * c4
    stage1 = (1 + TAPS * c0 * c1) * (1 + TAPS * c0 * c2)
    return stem * stage1 * (TAPS * c0 * c3) * (1 + TAPS * c4 * c5) * c4 * c6


def main(space, path):
    """Write a row for each of the 16,384 architectures."""
    most, image_channels, family = SPACES[space]
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["arch", "score"])
        for digits in itertools.product((1, 2, 3, 4), repeat=7):
            channels = [digit * full // 4 for digit, full in zip(digits, most, strict=True)]
            writer.writerow(["".join(map(str, digits)), math.log(num_paths(family, channels, image_channels))])


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in SPACES:
        sys.exit(f"usage: count_paths.py {'|'.join(SPACES)} FILE.csv")
    main(*sys.argv[1:])
