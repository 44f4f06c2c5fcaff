"""Scores meet the truth here, and only here; numbers, nothing printed.

`comparison` sets scores beside the truth, `baselines` are the scores that need no training, `noise` is what the table's
runs say of each other, `verdict` is all of it with intervals and tests.
"""
