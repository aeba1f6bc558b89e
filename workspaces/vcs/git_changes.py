"""What differs: names, counts and patches of a checkout or of a range, each file once, without touching any index."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from workspaces.process import DEFAULT_LIMIT, Result
from workspaces.vcs.base import ChangedFile, Changes
from workspaces.vcs.git_command import LONG_TIMEOUT, GitError, git, git_folder, listed, name, names
from workspaces.vcs.git_exclude import drop_excluded, place_of
from workspaces.vcs.git_submodules import may_have, worked_in

PATCH_LIMIT = 24 * 1024 * 1024  # bytes of all patches of one change
TRIES = 5
BETWEEN = b"\0\0"  # what git writes between the list and the patches; no name and no count is empty
BIG_FILE = "core.bigFileThreshold=2m"  # a larger file is named and not compared, as if it were binary

STATUS = {
    "A": "added", "D": "deleted", "M": "modified", "R": "renamed", "C": "copied", "T": "type_changed", "U": "modified",
}  # fmt: skip
ESCAPES = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}
OPTIONS = ("-M", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/")


def changes(checkout: Path, base: str, head: str = "", *, only: str = "", patches: bool = True) -> Changes:
    """Everything in the checkout against `base`, or the range up to `head`; `only` one path. The index is not touched."""
    if head:
        return compare(checkout, ["diff-tree", "-r", base, head], {}, base, head, [], only, patches)
    with scratch_index(checkout) as (env, nested):
        nested += worked_in(checkout, env) if may_have(checkout) else []
        return compare(checkout, ["diff-index", base], env, base, "", nested, only, patches)


@contextmanager
def scratch_index(checkout: Path) -> Iterator[tuple[dict[str, str], list[str]]]:
    """A copy of the index that also knows the untracked files; and the repositories inside the checkout."""
    with tempfile.TemporaryDirectory(prefix="studio-index-") as folder:
        copy = Path(folder) / "index"
        original = git_folder(checkout) / "index"
        if original.exists():
            # With its time stamp: git compares it with the files' to see which may have changed in the same instant.
            shutil.copy2(original, copy)
        env = {"GIT_INDEX_FILE": str(copy)}
        nested = add_untracked(checkout, env, drop_excluded(checkout, env))
        git(checkout, "update-index", "-q", "--refresh", env=env, ok=(0, 1), timeout=LONG_TIMEOUT)
        yield env, nested


def add_untracked(checkout: Path, env: Mapping[str, str], excluded: Iterable[str]) -> list[str]:
    """Make the scratch index know the untracked files by name, those `excluded` left out; the repositories among them.

    No content is stored.
    """
    options = ("add", "--intent-to-add", "--ignore-errors", "--pathspec-from-file=-", "--pathspec-file-nul")
    literal = {**env, "GIT_LITERAL_PATHSPECS": "1"}
    own = set(excluded)
    for _ in range(TRIES):
        listing = names(git(checkout, "ls-files", "--others", "--exclude-standard", "-z", env=env).stdout)
        others = [path for path in listing if not place_of(path, own)] if own else listing
        files = listed(path for path in others if not path.endswith("/"))
        # 128: a file vanished since it was listed, because somebody is at work here. 1: one cannot be read.
        if not files or git(checkout, *options, given=files, env=literal, ok=(0, 1, 128)).code != 128:
            return [path for path in others if path.endswith("/")]
    raise GitError("Files come and go too fast in the checkout to compare it.", transient=True)


def compare(
    checkout: Path,
    command: list[str],
    env: Mapping[str, str],
    base: str,
    head: str,
    nested: list[str],
    only: str,
    patches: bool,
) -> Changes:
    """What a diff `command` of git finds, each file once; with `patches` their parts of the unified diff."""
    big = ("-c", BIG_FILE, command[0], *OPTIONS, "--raw", "--numstat", "-z", "--no-abbrev")
    # One command for the list and the patches, because each looks at every file; but a path alone hides renames.
    together = ("-p",) if patches and not only else ()
    done = git(
        checkout,
        *big,
        *together,
        *command[1:],
        env=env,
        timeout=LONG_TIMEOUT,
        max_output=PATCH_LIMIT if together else DEFAULT_LIMIT,
        stop_at_limit=bool(together),
    )
    listing, between, patch = done.stdout.partition(BETWEEN)
    if done.truncated and not between:
        return replace(compare(checkout, command, env, base, head, nested, only, False), patch_cut=True)
    files = parse_listing(listing + b"\0")
    if only:
        files = [file for file in files if only in (file.old_path, file.new_path)]
        pathspecs = dict.fromkeys(path for file in files for path in (file.old_path, file.new_path) if path)
        if patches and files:
            done = _patches_of(checkout, [*command, "--", *pathspecs], env)
            patch = done.stdout
    if not (patches and files):
        return Changes(base, head, files, nested)
    sections = split_patch(patch, cut=done.truncated)
    found = [_with_patch(file, sections.get(header(file))) for file in files]
    return Changes(base, head, found, nested, patch_cut=done.truncated)


def _patches_of(checkout: Path, command: list[str], env: Mapping[str, str]) -> Result:
    return git(
        checkout,
        *("-c", BIG_FILE, command[0], *OPTIONS, "-p"),
        *command[1:],
        env={**env, "GIT_LITERAL_PATHSPECS": "1"},
        timeout=LONG_TIMEOUT,
        max_output=PATCH_LIMIT,
        stop_at_limit=True,
    )


def _with_patch(file: ChangedFile, patch: bytes | None) -> ChangedFile:
    return ChangedFile(
        file.status,
        file.old_path,
        file.new_path,
        file.old_mode,
        file.new_mode,
        file.additions,
        file.deletions,
        patch,
    )


def parse_listing(raw: bytes) -> list[ChangedFile]:
    """The output of `--raw --numstat -z`."""
    fields = iter(raw.split(b"\0"))
    entries: list[tuple[str, str, str, str, str]] = []
    counts: dict[tuple[str, str], tuple[int | None, int | None]] = {}
    for field in fields:
        if field.startswith(b":"):
            old_mode, new_mode, _, _, letter = field[1:].decode().split(" ")
            first = name(next(fields))
            second = name(next(fields)) if letter[0] in "RC" else first
            entries.append((letter[0], old_mode, new_mode, first, second))
        elif field:
            added, deleted, path = field.split(b"\t", 2)
            pair = (name(path), name(path)) if path else (name(next(fields)), name(next(fields)))
            counts[pair] = (None, None) if added == b"-" else (int(added), int(deleted))
    return [
        ChangedFile(
            STATUS.get(letter, "modified"),
            "" if letter == "A" else old,
            "" if letter == "D" else new,
            old_mode,
            new_mode,
            *counts.get((old, new), (0, 0)),
            None,
        )
        for letter, old_mode, new_mode, old, new in entries
        # A file with another time stamp and the same lines as the base: git compares it with the index only.
        if (letter, old_mode, counts.get((old, new), (0, 0))) != ("M", new_mode, (0, 0))
    ]


def header(file: ChangedFile) -> bytes:
    """The first line of a file's part of a patch, as git writes it."""
    old, new = file.old_path or file.new_path, file.new_path or file.old_path
    return b"diff --git " + _quoted(f"a/{old}") + b" " + _quoted(f"b/{new}")


def _quoted(path: str) -> bytes:
    """git's quoting with core.quotePath=false: only control characters, quotes and backslashes are escaped."""
    raw = path.encode("utf-8", "surrogateescape")
    escaped = b"".join(
        ESCAPES[byte].encode() if byte in ESCAPES else b"\\%03o" % byte if byte < 32 or byte == 127 else bytes([byte])
        for byte in raw
    )
    return raw if escaped == raw else b'"' + escaped + b'"'


def split_patch(raw: bytes, *, cut: bool) -> dict[bytes, bytes]:
    """The parts of a patch by their first line; a changed type has two, which are kept together. The one cut off is left out.

    No line inside a part begins like a header: lines of a hunk begin with a space, a sign or a backslash.
    """
    parts: dict[bytes, bytes] = {}
    pieces = (b"\n" + raw).split(b"\ndiff --git ")[1:]
    if cut:
        pieces = pieces[:-1]
    for piece in pieces:
        first, _, rest = (b"diff --git " + piece.removesuffix(b"\n")).partition(b"\n")
        parts[first] = parts.get(first, b"") + first + b"\n" + (rest + b"\n" if rest else b"")
    return parts
