"""Long shell commands of a workspace (tests, builds) in the background: they outlive every process of the studio.

`wrapper` is the process that keeps one command: it runs it, stores its output and writes down how it ended. `files` is what
the wrapper and the studio share: a folder per command. `launch` starts wrappers, `ending` ends them, `watch` notices what became of
them, `services` are the rows, `output` is the text as people read it, `keep` bounds what is kept.

The wrapper imports `files` and the standard library only, so this package's `__init__` imports nothing.
"""
