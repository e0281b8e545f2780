"""One file per command of the engine: it puts the other rooms together."""
