"""Train many runs into one table: plan, lease, train, store, collect; it may be killed at any moment.

`plan` says what to train and how; `build` finds the missing runs and hands them to `engines`; `store` is the folder of
finished runs, which `leases` and `work` share between builders; `status` shows the progress; `collect` makes the table;
`retrain` compares a table with new runs.
"""
