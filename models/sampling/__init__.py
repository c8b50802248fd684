"""Which cells make a batch, and the batches: plans of integers, executors that read."""
