"""Which genes a model sees, and how their counts are treated."""
