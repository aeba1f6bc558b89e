"""Starting, watching and stopping everything with one command.

`manage.py up` and `manage.py down` run without Django: the data folder may be unusable, and the process that stays in the
foreground shall be small. Whatever needs the database is a management command that they run.
"""
