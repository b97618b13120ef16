"""The one training loop, and the stages of the method as functions over it."""
