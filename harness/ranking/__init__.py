"""A method becomes a score file: `run` for one ranking that survives being killed, `batch` for many of them."""
