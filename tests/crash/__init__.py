"""The proof that a studio survives everything: real processes, killed and stopped at every named moment of a turn."""
