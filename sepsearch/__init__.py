"""Search, retrain and register small networks that pull one instrument out of a chamber recording."""

__version__ = "0.1.0"
