"""OpenCode as a backend: its HTTP client, the translation of its events and messages, and how a managed server is run."""
