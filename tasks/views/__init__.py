"""The pages of the board and of one task."""
