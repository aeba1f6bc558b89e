"""Branches and remotes, and pushing to one: by fast-forward or with a lease, with a token that nobody else gets to see."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from studio.kernel.text import clean
from workspaces.vcs.base import Raced, VcsError
from workspaces.vcs.git_command import commit_of, configured, git, line, name, names, personal
from workspaces.vcs.git_push_errors import push_error

PUSH_TIMEOUT = 180.0  # seconds
ANY_END = range(-64, 256)  # exit codes: what a failed push says is never shown as it is
BRANCHES_LIMIT = 2_000
OWN_BRANCHES = "studio/"  # what the studio's own checkouts are on

STALE = re.compile(r"stale info|fetch first|non-fast-forward|remote ref updated|cannot lock ref|failed to update ref")


def branches(repository: Path) -> list[str]:
    """The local branches, those with the newest commits first; without those of the studio's own checkouts."""
    order = ("for-each-ref", "--sort=-committerdate", f"--count={BRANCHES_LIMIT}", "--format=%(refname)")
    found = (name(row) for row in git(repository, *order, "refs/heads").stdout.splitlines())
    return [
        branch for branch in (ref.removeprefix("refs/heads/") for ref in found) if not branch.startswith(OWN_BRANCHES)
    ]


def remotes(repository: Path) -> dict[str, str]:
    """The names and fetch addresses of the remotes, without credentials in them."""
    done = git(repository, "config", "--null", "--get-regexp", r"^remote\..*\.url$", ok=(0, 1))
    found: dict[str, str] = {}
    for row in names(done.stdout):
        key, _, url = row.partition("\n")
        found.setdefault(key[len("remote.") : -len(".url")], _without_credentials(url))
    return found


def _without_credentials(url: str) -> str:
    """An address as it may be shown; one of the short form (host:path) has none that git would use."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    if not parts.scheme or "@" not in parts.netloc:
        return url
    user, _, host = parts.netloc.rpartition("@")
    kept = f"{user.partition(':')[0]}@" if parts.scheme in ("ssh", "git+ssh") else ""
    return urlunsplit((parts.scheme, f"{kept}{host}", parts.path, parts.query, parts.fragment))


def push(
    repository: Path,
    remote: str,
    commit: str,
    branch: str,
    *,
    expected: str | None,
    header: str,
    hooks: bool = False,
) -> None:
    """Make `branch` of the remote point at `commit`; refused (Raced) unless it is there or at `expected`, "" meaning absent.

    `remote` is a remote's name or an address; `expected` None: only forward. `header` is an HTTP Authorization header that
    never reaches a command line, a log or the repository's configuration; empty uses the person's own credentials.
    `hooks` lets the repository's pre-push hook run and refuse, but never with a header: it could read it. Tags and
    submodules are not pushed.
    """
    full = f"refs/heads/{branch}"
    if commit_of(repository, commit) is None:
        raise VcsError(f"There is no commit {commit} to push.")
    if git(repository, "check-ref-format", full, ok=(0, 1)).code:
        raise VcsError(f"“{branch}” cannot be the name of a branch.")
    lease = [] if expected is None else [f"--force-with-lease={full}:{expected}"]
    options = ("--porcelain", "--no-follow-tags", "--recurse-submodules=no", "--no-signed", *lease)
    done = git(
        repository,
        "push",
        *options,
        "--end-of-options",
        remote,
        f"{commit}:{full}",
        ok=ANY_END,
        env=_authorised(repository, remote, header) if header else personal(),
        timeout=PUSH_TIMEOUT,
        as_configured=hooks and not header,
    )
    if not done.code:
        return
    said = clean((done.stdout + b"\n" + done.stderr).decode("utf-8", "replace"))
    reason = "; ".join(row.split("\t")[-1] for row in said.splitlines() if row.startswith("!"))
    if STALE.search(reason):
        raise Raced(f"{branch} of {remote} is not where it was expected: somebody has pushed to it.")
    raise push_error(f"{reason} {said.strip()}", header)


def _authorised(repository: Path, remote: str, header: str) -> dict[str, str]:
    """git's configuration by environment, which only the process itself (and its owner) can read.

    The header belongs to the remote's address alone, wherever else the repository's configuration may lead; an agent can
    write there. The first, empty value forgets headers of that configuration. Redirects are not followed, certificates are
    verified, no credential helper is asked, and over plain http, which is for this machine, no proxy.
    """
    url = remote if "://" in remote else line(repository, "remote", "get-url", "--push", "--end-of-options", remote)
    settings = [
        (f"http.{url}.extraHeader", ""),
        (f"http.{url}.extraHeader", f"Authorization: {header.removeprefix('Authorization:').strip()}"),
        (f"http.{url}.followRedirects", "false"),
        (f"http.{url}.sslVerify", "true"),
        ("credential.helper", ""),
    ]
    if url.startswith("http:"):
        settings.append((f"http.{url}.proxy", ""))
    return configured(settings)
