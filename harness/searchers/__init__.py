"""The searchers of the literature, one per file; `harness.search` is the contract, and imports them when asked."""
