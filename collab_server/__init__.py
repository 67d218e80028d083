"""A realtime collaboration server for unmodified Yjs clients."""

__version__ = "0.1.0"
