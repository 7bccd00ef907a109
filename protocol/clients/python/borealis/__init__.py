"""A device client of the push service Borealis, written from protocol/PROTOCOL.md alone."""

__version__ = "1.0.0"
