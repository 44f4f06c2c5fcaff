"""The judge of width-search methods: train a method's supernet, score all widths, compare with the trained truth.

The contract that a method fulfils is in method.py, what it is given in task.py. This package imports channel_bench,
never the other way round, and importing it loads no torch.
"""
