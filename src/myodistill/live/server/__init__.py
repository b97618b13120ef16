"""The live page's server: a stream is decoded in a thread, and shown to whoever has the address."""
