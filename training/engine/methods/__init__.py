"""Training methods: one file each, all driven by the one loop (``loop/trainer.py``)."""
