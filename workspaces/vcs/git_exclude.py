"""What the studio puts into a checkout and git must not see: copied files, links, generated ones.

`info/exclude` is shared by all worktrees of a repository, the person's own checkout included, so it is left alone. Instead the
repository's configuration includes, for this worktree only (`includeIf.gitdir:`), a file of the worktree's own folder, which
names an excludes file that holds the paths and what the person's own global one holds. That works for whoever uses git in the
checkout. A `.gitignore` may still say `!.env`, so the studio's own commits and diffs leave the paths out by name as well.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path

from workspaces.vcs.git_command import LONG_TIMEOUT, git, git_folder, line, listed, name, names

PATHS = "studio-excluded"  # in the worktree's own folder: the paths, each ended with NUL
PATTERNS = "studio-exclude"
CONFIG = "studio.config"
GLOBAL_LIMIT = 256 * 1024  # bytes of the person's own excludes file


def exclude(checkout: Path, paths: Sequence[str]) -> list[str]:
    """Keep exactly `paths` out of every commit, status and diff of this checkout; those that are tracked, which cannot be."""
    literal = {"GIT_LITERAL_PATHSPECS": "1"}
    known = names(git(checkout, "ls-files", "-z", "--", *paths, env=literal).stdout) if paths else []
    tracked = places_of(known, paths)
    wanted = [path for path in paths if path not in tracked]
    admin = git_folder(checkout)
    _write(admin / PATTERNS, b"".join([_persons_own(checkout, admin), *map(pattern, wanted)]))
    _write(admin / PATHS, listed(wanted))
    if admin.parent.name == "worktrees":
        _include(checkout, admin)
    return tracked


def _include(checkout: Path, admin: Path) -> None:
    """Let git read the file in this worktree, and nowhere else."""
    _write(admin / CONFIG, b"[core]\n\texcludesFile = " + _quoted(admin / PATTERNS) + b"\n")
    common = admin.parent.parent / "config"
    key, value = f"{_section(admin)}.path", f"worktrees/{admin.name}/{CONFIG}"
    if git(checkout, "config", "--file", str(common), "--get", key, ok=(0, 1)).code:
        git(checkout, "config", "--file", str(common), key, value)


def _section(admin: Path) -> str:
    """The condition. `./` is the folder of the repository's configuration, taken literally whatever characters it has."""
    return f"includeIf.gitdir:./worktrees/{admin.name}"


def forget_exclude(repository: Path, admin: Path) -> None:
    """Take the include out of the repository's configuration again. One that was never there is fine."""
    common = admin.parent.parent / "config"
    git(repository, "config", "--file", str(common), "--remove-section", _section(admin), ok=(0, 5, 128))


def _persons_own(checkout: Path, admin: Path) -> bytes:
    """What the person's own excludes file says, for it no longer counts where there is another one."""
    done = git(checkout, "config", "--type=path", "--get-all", "core.excludesFile", ok=(0, 1))
    said = [Path(checkout, name(one)) for one in done.stdout.splitlines() if one]
    home = Path(os.environ.get("HOME", "/"))
    usual = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "git" / "ignore"
    own = [path for path in said if path != admin / PATTERNS]
    try:
        with (own[-1] if own else usual).open("rb") as handle:
            return handle.read(GLOBAL_LIMIT).rstrip(b"\n") + b"\n"
    except OSError:
        return b""


def pattern(path: str) -> bytes:
    """A pattern for the path alone, at the root; it has no slash at its end, for a link to a folder is no folder."""
    raw = os.fsencode(path)
    escaped = b"".join(b"\\" + bytes([one]) if one in b"\\*?[ " else bytes([one]) for one in raw)
    return b"/" + escaped + b"\n"


def _quoted(path: Path) -> bytes:
    escaped = os.fsencode(path).replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return b'"' + escaped + b'"'


def _write(path: Path, content: bytes) -> None:
    scratch = path.with_name(f"{path.name}.{os.getpid()}")
    scratch.write_bytes(content)
    scratch.replace(path)


def excluded_paths(checkout: Path) -> list[str]:
    """The paths of the last `exclude`; empty when there was none."""
    try:
        return names((git_folder(checkout) / PATHS).read_bytes())
    except OSError:
        return []


def ignored(checkout: Path, env: Mapping[str, str] | None = None) -> list[str]:
    """What is ignored in the checkout: files, and folders that are ignored whole, ending with a slash."""
    asked = ("ls-files", "--others", "--ignored", "--exclude-standard", "--directory", "-z")
    found: list[str] = []
    folder = ""
    for path in sorted(names(git(checkout, *asked, env=env, timeout=LONG_TIMEOUT).stdout)):
        if folder and path.startswith(folder):
            continue  # named by its folder already
        folder = path if path.endswith("/") else folder
        found.append(path)
    return found


def place_of(path: str, places: Container[str]) -> str:
    """Which of `places` a path is, or is inside of; empty when it is in none."""
    parts = path.rstrip("/").split("/")
    return next((place for end in range(1, len(parts) + 1) if (place := "/".join(parts[:end])) in places), "")


def places_of(paths: Iterable[str], places: Sequence[str]) -> list[str]:
    """Those of `places` that one of the paths is, or is inside of; in order."""
    among = set(places)
    found = {place_of(path, among) for path in paths}
    return [place for place in places if place in found]


def drop_excluded(checkout: Path, env: Mapping[str, str] | None = None) -> list[str]:
    """Take from the index what is excluded and was only added to it, by force; the excluded paths."""
    return drop_staged(checkout, env, excluded_paths(checkout), ["HEAD"])


def drop_staged(
    checkout: Path, env: Mapping[str, str] | None, paths: Sequence[str], commits: Iterable[str]
) -> list[str]:
    """Take from the index those of `paths` that none of the commits has; the paths that none has.

    One that is committed stays, and stays in the diff: whoever reads the change must see it.
    """
    if not paths:
        return []
    literal = {**(env or {}), "GIT_LITERAL_PATHSPECS": "1"}
    staged = names(git(checkout, "ls-files", "-z", "--", *paths, env=literal).stdout)
    if staged:
        committed: set[str] = set()
        for commit in commits:
            listing = ("ls-tree", "-r", "-z", "--name-only", commit, "--", *paths)
            committed.update(names(git(checkout, *listing, env=literal).stdout))
        added = [path for path in staged if path not in committed]
        if added:
            given = listed(added)
            git(checkout, "update-index", "--force-remove", "-z", "--stdin", given=given, env=literal)
        kept = places_of(committed, paths)
        return [path for path in paths if path not in kept]
    return list(paths)


def file_at(repository: Path, commit: str, path: str, *, limit: int) -> bytes | None:
    """At most `limit` bytes of a plain file as it is in `commit`; None when there is none. Links are not followed."""
    entry = git(repository, "ls-tree", "-z", commit, "--", path, env={"GIT_LITERAL_PATHSPECS": "1"}, ok=(0, 128))
    if not entry.stdout.startswith(b"100") or entry.stdout.count(b"\0") != 1:
        return None
    blob = line(repository, "rev-parse", "--verify", "--end-of-options", f"{commit}:{path}")
    return git(repository, "cat-file", "blob", blob, max_output=limit, stop_at_limit=True).stdout
