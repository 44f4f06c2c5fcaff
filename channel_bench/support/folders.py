"""Where data lies on this machine."""

from __future__ import annotations

import os
from pathlib import Path


def default_data_dir() -> Path:
    """$CHANNEL_BENCH_DATA where it is set, else a folder in the user's cache."""
    configured = os.environ.get("CHANNEL_BENCH_DATA")
    if configured:
        return Path(configured).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("channel-bench")
