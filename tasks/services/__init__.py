"""What changes tasks, a module per subject.

board (create, edit, place, delete), lifecycle (the one entry for every action), moves (every column move), runs (opening
and ending runs), schedule, prepare, advance (the pipeline's steps), results (what agents hand in), completion (merges),
sweep (what a lost doorbell left behind).
"""
