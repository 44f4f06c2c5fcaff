"""``python -m harness.cli``: the same command line where its console script is not on the path."""

from harness.cli import main

main()
