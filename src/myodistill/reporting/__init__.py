"""Reads a run back and shows it: tables, figures, the report."""
