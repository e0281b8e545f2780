"""Pages of the training room. Each reads rows; only services write them."""
