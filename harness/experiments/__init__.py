"""The papers' own experiments, each as one command with its table and figure.

    >>> run_experiment("regions", Setting(TaskOptions(space="resnet-mini")), Path("results"), num_jobs=2)

`contract` is what an experiment is, `claims` what it concludes, `run` does one: its cells in worker processes, kept one
by one, then its outcome, which is computed from the cells alone. One module per experiment.
"""
