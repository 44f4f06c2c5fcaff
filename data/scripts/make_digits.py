"""Write the digits that the mini spaces are trained on, from scikit-learn's copy of the UCI file.

    python data/scripts/make_digits.py          # needs scikit-learn, which the package itself does without

E. Alpaydin and C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI Machine Learning Repository, 1998 (licence
CC BY 4.0): the 1,797 images of its test set, 8x8, grey levels 0..16. Nothing is changed but the container.
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from channel_bench.training.datasets import DIGITS_FILE


def main() -> None:
    """Write the file."""
    bunch = load_digits()
    pixels, labels = bunch.images.astype(np.uint8), bunch.target.astype(np.uint8)
    assert (pixels == bunch.images).all() and (labels == bunch.target).all()
    np.savez_compressed(DIGITS_FILE, pixels=pixels, labels=labels)
    print(f"wrote {DIGITS_FILE}: {DIGITS_FILE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
