"""Many runs into one table: plan, lease, train, store, collect; killed at any moment, nothing is lost or done twice.

`build` decides what is missing and hands it to `engines`; `store` is the folder of durable runs, `leases` and `work`
share it between builders; `status` says how far it is; `collect` makes the table; `retrain` compares a table
with new runs.
"""
