"""OpenCode Studio: a self-hosted board on which people hand coding tasks to AI agents."""

__version__ = "0.1.0"
