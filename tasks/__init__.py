"""The board: tasks, their runs, plans, reviews and findings, and what moves them."""
