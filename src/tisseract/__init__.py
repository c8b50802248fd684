"""Tissue + tesseract: an engine for tissue atlases that do not fit in memory."""

__version__ = "0.1.0"
