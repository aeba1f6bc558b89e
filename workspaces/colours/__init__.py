"""The colours of code, and what changed within a line."""
