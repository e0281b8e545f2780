"""How weights change: optimizers as torch defines them, schedules, parameter groups, loss scaling."""
