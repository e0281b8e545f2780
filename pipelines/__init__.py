"""The room for orders of several jobs. It stands above training and registry and holds no code yet."""
