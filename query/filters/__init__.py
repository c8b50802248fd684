"""What cells must satisfy: predicates, their spellings, and the columns they name."""
