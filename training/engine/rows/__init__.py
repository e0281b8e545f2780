"""From one data row to arrays: what it trains, how rows are batched, packed and laid out."""
