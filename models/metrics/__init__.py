"""How good labels and embeddings are: agreement, mixing, continuity, proportions."""
