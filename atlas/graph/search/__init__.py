"""The search for near cells: the k nearest, and all within a distance; exact, patch by patch."""
