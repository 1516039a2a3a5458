"""Train and evaluate every fold of a feature set."""
