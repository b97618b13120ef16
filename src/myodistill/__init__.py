"""MyoDistill: many people's muscle recordings in, a tiny gesture decoder for one person out."""

__version__ = "0.1.0"
