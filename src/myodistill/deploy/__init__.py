"""What leaves for the device: the bundle."""
