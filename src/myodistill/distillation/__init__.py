"""Distillation: the losses, and teacher outputs computed once."""
