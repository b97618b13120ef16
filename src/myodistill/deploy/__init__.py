"""From a bundle to a device: export, quantisation, C, and the check that all forms agree."""
