"""Live use: real streams in, decisions out to whoever acts on them. Nothing here needs PyTorch."""

from importlib import import_module


def register_sources() -> None:
    """Make the sources of this package known by name."""
    for name in ("network", "serial_port", "lsl", "boards"):
        import_module(f"{__name__}.{name}")
