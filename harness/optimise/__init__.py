"""Optimisers on the table: what they find for a budget of trainings, over many seeds, judged by runs they did not see.

    >>> traces = run_optimiser("local_search", replay_of(table), num_seeds=100)
    >>> regret(traces, table).mean(0)                  # percentage points after each training

`replay` answers an optimiser from the table, `run` does many searches and keeps them, `judge` says what they are worth.
"""
