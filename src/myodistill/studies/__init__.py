"""Experiments and studies: what is run, stored and scored."""
