"""From recordings to what a model reads: causal filters, windows as views, features."""
