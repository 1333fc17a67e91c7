"""Formats in and out, built-in text, and planting."""
