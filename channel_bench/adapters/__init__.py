"""The table in the formats of other libraries.

    >>> from channel_bench.adapters.syne_tune import blackbox
    >>> blackbox(cb.load("resnet-mini"))                          # a BlackboxTabular of Syne Tune

`syne_tune` makes a tabular blackbox, `optuna` an objective, `configspace` a configuration space, `naslib` answers
`query` the way of NASLib's search spaces; `channel_bench.nats` is NATS-Bench's own interface. All of them call the
widths slot0 .. slot6, in channels, as `Table.frame` does. A library is imported by the function that needs it: pip
install 'channel-bench[adapters]' brings all of them.
"""
