"""``python -m channel_bench.cli``: the same command line where its console script is not on the path."""

from channel_bench.cli import main

main()
