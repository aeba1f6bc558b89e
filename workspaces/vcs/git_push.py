"""Branches and remotes, and pushing to one: by fast-forward or with a lease, with a token that nobody else gets to see."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from studio.kernel.text import clean
from workspaces.vcs.base import Raced, VcsError
from workspaces.vcs.git_command import commit_of, configured, git, line, name, names, personal
from workspaces.vcs.git_inspect import store
from workspaces.vcs.git_push_errors import push_error

PUSH_TIMEOUT = 180.0  # seconds
ANY_END = range(-64, 256)  # exit codes: what a failed push says is never shown as it is
BRANCHES_LIMIT = 2_000
BARE = "[core]\n\trepositoryformatversion = 1\n\tbare = true\n[extensions]\n\tobjectFormat = {form}\n"
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

    `remote` is a remote's name or an address, with a header an address. `expected` None: only forward. `header` is an HTTP
    Authorization header that goes to that address whatever the repository's configuration says, and never reaches a command
    line, a log or that configuration; empty uses the person's own credentials.
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
    with _authorised(repository, remote, header) if header else nullcontext(personal()) as env:
        done = git(
            repository,
            "push",
            *options,
            "--end-of-options",
            remote,
            f"{commit}:{full}",
            ok=ANY_END,
            env=env,
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


@contextmanager
def _authorised(repository: Path, url: str, header: str) -> Iterator[dict[str, str]]:
    """The environment in which git pushes with the header to an address.

    An agent can write the repository's configuration, and that says where a connection really goes, through which proxy, and
    whom it trusts. So git is given a folder of its own with nothing but the repository's objects: the settings of the account
    and of the machine hold there, such as a company's proxy and authority, the repository's do not. Ours stand in the
    environment, which only the process itself (and its owner) can read. The header belongs to the remote's address alone. The
    first, empty value forgets other headers. Redirects are not followed, certificates are verified, no credential helper is
    asked, and over plain http, which is for this machine, no proxy.
    """
    if "://" not in url:  # what a name means is written in the repository's configuration
        raise VcsError(f"A token is shown to an address only, and “{url}” is none.")
    settings = [
        (f"http.{url}.extraHeader", ""),
        (f"http.{url}.extraHeader", f"Authorization: {header.removeprefix('Authorization:').strip()}"),
        (f"http.{url}.followRedirects", "false"),
        (f"http.{url}.sslVerify", "true"),
        ("credential.helper", ""),
    ]
    if url.startswith("http:"):
        settings.append((f"http.{url}.proxy", ""))
    own, form = store(repository), line(repository, "rev-parse", "--show-object-format")
    with tempfile.TemporaryDirectory(prefix="studio-push-") as scratch:
        folder = Path(scratch)
        (folder / "refs").mkdir()
        (folder / "HEAD").write_text("ref: refs/heads/none\n")
        (folder / "config").write_text(BARE.format(form=form))
        if (own / "shallow").is_file():
            shutil.copyfile(own / "shallow", folder / "shallow")
        yield {"GIT_DIR": scratch, "GIT_OBJECT_DIRECTORY": str(own / "objects"), **configured(settings)}
