"""Train and judge every fold of a feature set."""
