"""Does a plug-in keep its contract: `checker` asks, `isolation` keeps the truth out of its reach meanwhile."""
