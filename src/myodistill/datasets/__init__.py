"""Recordings of people: one file per public dataset, all giving the same Recording objects."""
