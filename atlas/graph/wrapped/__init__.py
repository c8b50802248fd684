"""Sources of edges made of others: some cells only, some lengths only, both directions."""
