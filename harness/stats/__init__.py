"""Arrays in, numbers out: correlations, ranks, resampling, noise, additive fits; nothing prints or reads a table."""
