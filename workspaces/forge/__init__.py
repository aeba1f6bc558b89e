"""Forges: the servers on which people look at changes. `base.py` is what the studio asks of one; each kind is one module."""
