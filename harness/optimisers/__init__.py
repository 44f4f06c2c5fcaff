"""The optimisers of the literature, one per file; those of libraries through the libraries' own packages.

`harness.optimiser` has their contract; ``OPTIMISERS.make("local_search")`` makes one.
"""
