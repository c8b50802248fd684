"""Which cells answer: questions, plans that prune, selections."""
