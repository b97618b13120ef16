"""The training loop, its batches, and the tasks and losses that it minimises."""
