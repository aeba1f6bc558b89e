"""The practice model: a small OpenAI-compatible endpoint that follows scripts, so that everything runs without an account.

Standard library only and no Django: it can be started alone, `python -m agents.practice --port 0 --port-file F --log L`.
"""
