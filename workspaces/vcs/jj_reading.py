"""Reading of jj: commits are git's, in the store; a workspace is seen as its diff sees it, without a snapshot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from workspaces.vcs.git_reading import GitReading
from workspaces.vcs.jj_changes import borrowed, compared, drop_excluded
from workspaces.vcs.jj_inspect import git_store


class JjReading(GitReading):
    """The `Reading` of jj repositories; see workspaces/vcs/reading.py for what each method promises."""

    def store(self, place: Path) -> Path:
        """The git repository that holds the commits."""
        return git_store(place)

    @contextmanager
    def seen(self, checkout: Path) -> Iterator[Mapping[str, str]]:
        """The environment in which git sees what is in a workspace."""
        with borrowed(checkout) as env:
            drop_excluded(checkout, env)
            yield env

    @contextmanager
    def compared(self, checkout: Path) -> Iterator[Mapping[str, str]]:
        """The same with an index that has the untracked files too, up to date."""
        with compared(checkout) as (env, _):
            yield env
