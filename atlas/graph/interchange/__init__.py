"""squidpy's form of a graph, and this engine in squidpy."""
