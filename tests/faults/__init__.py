"""Bad input and faults, made for real: see docs/reliability.md."""
