"""Directories under version control: registered repositories and the checkouts in which agents work."""
