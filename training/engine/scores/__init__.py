"""How good answers are: rules, reward models, win rates."""
