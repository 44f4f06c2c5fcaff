"""The judge of width-search methods: train a method's supernet, score all widths, compare with the trained truth.

The contract of a method is in method.py, and what a method gets in task.py. This package imports channel_bench,
never the other way round, and importing it loads no torch.
"""
