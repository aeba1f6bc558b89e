"""Commits that are written without a checkout: the message's hook, the person's signature, and a look at what was written."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from studio.kernel.text import clean, cut, ended
from workspaces.vcs.git_command import SAID_LIMIT, GitError, authored, git
from workspaces.vcs.git_inspect import store
from workspaces.vcs.git_loose import loose_commit
from workspaces.vcs.merging import Person

HOOK_TIMEOUT = 60.0  # seconds
SIGN_TIMEOUT = 60.0  # seconds; a key that asks for a passphrase cannot be answered
MESSAGE_LIMIT = 64 * 1024  # bytes of what a hook may make of a message
MESSAGE_HOOK = "commit-msg"
RUN_HOOKS = ("reference-transaction", "post-merge")  # when the branch moves; see git_target
SKIPPED_HOOKS = ("pre-merge-commit", "pre-commit", "prepare-commit-msg")


class Refused(Exception):
    """The repository's own rules do not let this commit be made; nothing was moved. The message is for people."""


class Written(Protocol):
    """What a merge and a revert both say about the commit they end in."""

    @property
    def message(self) -> str: ...
    @property
    def author(self) -> Person: ...
    @property
    def committer(self) -> Person: ...
    @property
    def at(self) -> datetime: ...
    @property
    def hooks(self) -> bool: ...
    @property
    def signed(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Demands:
    """What the repository's own rules ask of a commit."""

    signature: bool
    message_hook: bool


def demands(repository: Path, request: Written) -> Demands:
    """What is asked of the commit that the request ends in."""
    return Demands(
        signature=request.signed and signs(repository),
        message_hook=request.hooks and bool(hooks_present(repository, (MESSAGE_HOOK,))),
    )


def write_commit(repository: Path, request: Written, asked: Demands, tree: str, parents: list[str]) -> str:
    """A commit of `tree` with the request's message, as is asked of it. Raises Refused."""
    message = (request.message.strip() or "Merge").encode("utf-8", "replace") + b"\n"
    if asked.message_hook:
        message = _through_hook(repository, message)
    return commit_tree(repository, tree, parents, message, people(request), sign=asked.signature)


def commit_tree(
    repository: Path, tree: str, parents: list[str], message: bytes, identity: dict[str, str], *, sign: bool
) -> str:
    """Write one commit and look whether it is what was meant. Raises Refused when it cannot be signed."""
    flags = [part for parent in parents for part in ("-p", parent)]
    command = ("commit-tree", *(["-S"] if sign else []), tree, *flags, "-F", "-")
    try:
        done = git(repository, *command, given=message, env=identity, timeout=SIGN_TIMEOUT, as_configured=sign)
    except GitError as error:
        if not sign:
            raise
        raise Refused(
            "The repository's configuration asks for signed commits, and the merge could not be signed: "
            f"{ended(error.said or error.message)} Nothing was moved. Make the key usable without a passphrase prompt (an agent "
            "that holds it, for example), or turn commit.gpgSign off, then try again."
        ) from error
    commit = done.stdout.decode().strip()
    _require_as_meant(repository, commit, tree, parents)
    return commit


def signs(repository: Path) -> bool:
    """Whether the person signs commits in this repository."""
    done = git(repository, "config", "--type=bool", "--get", "commit.gpgSign", ok=(0, 1, 128), as_configured=True)
    return done.stdout.strip() == b"true"


def hooks_present(repository: Path, wanted: tuple[str, ...]) -> list[str]:
    """Which of the hooks `wanted` the repository has."""
    asked = git(repository, "rev-parse", "--path-format=absolute", "--git-path", "hooks", as_configured=True)
    folder = Path(asked.stdout.decode("utf-8", "surrogateescape").removesuffix("\n"))
    return [hook for hook in wanted if (folder / hook).is_file() and (folder / hook).stat().st_mode & 0o111]


def message_rules(repository: Path) -> list[str]:
    """In words, what of the repository's own rules for merges the studio meets."""
    rules = [f"The hook {hook} runs." for hook in hooks_present(repository, (*RUN_HOOKS, MESSAGE_HOOK))]
    rules += [
        f"The hook {hook} does not run: it looks at a checkout of the merge, and the studio merges without one."
        for hook in hooks_present(repository, SKIPPED_HOOKS)
    ]
    if signs(repository):
        rules.append("The commit is signed with your key.")
    return rules


def _through_hook(repository: Path, message: bytes) -> bytes:
    """The message as the repository's commit-msg hook leaves it. Raises Refused with what the hook said."""
    with tempfile.TemporaryDirectory(prefix="studio-message-") as folder:
        file = Path(folder) / "COMMIT_EDITMSG"
        file.write_bytes(message)
        command = ("hook", "run", "--ignore-missing", MESSAGE_HOOK, "--", str(file))
        try:
            done = git(repository, *command, ok=range(256), timeout=HOOK_TIMEOUT, as_configured=True)
        except GitError as error:
            raise Refused(
                f"The repository's hook {MESSAGE_HOOK} did not come to an end: {error.message} Nothing was moved."
            ) from error
        if done.code:
            said = cut(clean((done.stdout + done.stderr).decode("utf-8", "replace")).strip(), SAID_LIMIT)
            raise Refused(
                f"The repository's hook {MESSAGE_HOOK} refused the message: {ended(said or f'exit status {done.code}')} "
                "Nothing was moved. Change the message, then try again."
            )
        return file.read_bytes()[:MESSAGE_LIMIT].strip() + b"\n"


def _require_as_meant(repository: Path, commit: str, tree: str, parents: list[str]) -> None:
    """Raise GitError unless the commit that was written has this tree and these parents."""
    said = loose_commit(store(repository), commit) or git(repository, "cat-file", "commit", commit).stdout
    header = said.partition(b"\n\n")[0].decode("utf-8", "replace")
    rows = [row.split(" ", 1) for row in header.splitlines() if row.startswith(("tree ", "parent "))]
    if rows != [["tree", tree], *(["parent", parent] for parent in parents)]:
        raise GitError(f"The commit {commit} is not what was computed: it should have the tree {tree}.")


def people(request: Written) -> dict[str, str]:
    """Author and committer with the request's date, so that computing it again gives the same commit."""
    date = f"@{int(request.at.astimezone(UTC).timestamp())} +0000"
    return authored(_signable(request.author), _signable(request.committer), date=date)


def _signable(person: Person) -> Person:
    """git refuses names that are empty once it has taken out what has a meaning in a commit."""
    plain = clean(person.name).translate(str.maketrans("", "", "<>\n")).strip(" .,:;\"'\\") or "OpenCode Studio"
    return Person(
        plain, clean(person.email).translate(str.maketrans("", "", "<>\n ")) or "studio@opencode-studio.invalid"
    )
