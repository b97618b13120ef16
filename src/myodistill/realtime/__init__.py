"""Live use: a stream of samples in, decisions out. Nothing here needs PyTorch."""
