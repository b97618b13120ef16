"""Teachers, students and baselines: one file per family, one catalogue."""
