"""One job: its row, slot, supervised process, data sets, metrics, checkpoints and live page."""
