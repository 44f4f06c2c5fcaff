"""The methods of the literature, one per file; `harness.method` is the contract, and imports them when asked."""
