"""What became of a push that failed: git's words without the token, what to do next, and whether trying again can help."""

from __future__ import annotations

import base64
import re

from studio.kernel.redact import redact
from studio.kernel.text import clean, cut, ended
from workspaces.remedies import Known, Remedy, remedy_for
from workspaces.vcs.git_command import SAID_LIMIT, GitError

KNOWN: Known = (
    (
        re.compile(r"Authentication failed|could not read (Username|Password)|returned error: 401"),
        Remedy(
            "The remote does not accept the token: it is wrong, has expired or was withdrawn. Enter a new one in the "
            "project's settings, under Forge.",
            passes=False,
        ),
    ),
    (
        re.compile(r"returned error: 403"),
        Remedy(
            "Who asks may not write there: give the token, and the account it belongs to, the right to write to the "
            "repository; an archived one takes nothing.",
            passes=False,
        ),
    ),
    (
        re.compile(r"returned error: 30\d|unable to update url base"),
        Remedy(
            "The remote sends requests on to another address, and the token does not go along. Give the remote its present "
            "address (git remote set-url).",
            passes=False,
        ),
    ),
    (
        re.compile(r"certificate|SSL|TLS|handshake"),
        Remedy(
            "Its certificate is not trusted by the git of the account that runs the studio, and nothing was shown to it. "
            "For an authority of your own, set it for that account: git config --global http.sslCAInfo FILE. What the repository's "
            "own settings say of it does not count.",
            passes=False,
        ),
    ),
    (
        re.compile(r"returned error: 429"),
        Remedy("The remote has had enough requests for now; it is tried again later.", passes=True),
    ),
    (
        re.compile(r"returned error: 5\d\d|RPC failed"),
        Remedy("The remote failed and may work again later.", passes=True),
    ),
    (
        re.compile(
            r"resolve host|[Ff]ailed to connect|Couldn't connect|connect to host|Connection (refused|timed out)"
        ),
        Remedy("The remote cannot be reached from here; try again when it can.", passes=True),
    ),
    (
        re.compile(r"Empty reply|timed out|hung up|early EOF|Recv failure|Connection reset|transfer closed"),
        Remedy("The remote broke off; try again.", passes=True),
    ),
    (
        re.compile(r"Permission denied \("),
        Remedy("The remote does not accept the key of the account that runs the studio.", passes=False),
    ),
    (
        re.compile(r"not found|does not appear to be a git repository|returned error: 4\d\d"),
        Remedy(
            "There is no such repository, or the token may not see it: compare the remote's address with the forge's page.",
            passes=False,
        ),
    ),
    (
        re.compile(r"protocol error|git-http-push|is this a git repository|expected flush|unexpected|invalid"),
        Remedy("It did not answer as a server of git does. Is the address right?", passes=False),
    ),
)


def push_error(said: str, header: str) -> GitError:
    """The error of a push that ended with these words of git, some of which the remote may have put there."""
    words = without_secrets(clean(said).strip(), header)
    remedy = _remedy(words)
    text = ended(cut(words, SAID_LIMIT) or "git said nothing")
    next_step = f" {remedy.words}" if remedy else ""
    return GitError(
        f"git push failed: {text}{next_step} The commits are kept here.",
        said=words,
        transient=remedy is not None and remedy.passes,
    )


def without_secrets(text: str, header: str) -> str:
    """`text` without what the header has: a remote may say again what it was shown."""
    credentials = header.rpartition(" ")[2]
    try:
        password = base64.b64decode(credentials, validate=True).decode().partition(":")[2]
    except ValueError:
        password = ""
    for secret in (credentials, password):
        text = text.replace(secret, "[redacted]") if secret else text
    return redact(text)


def _remedy(said: str) -> Remedy | None:
    """By git's own words alone, without addresses: the remote writes what it likes, and so does who names a repository."""
    own = re.sub(r"'[^']*'", "''", "\n".join(row for row in said.splitlines() if not row.startswith("remote:")))
    return remedy_for(own, KNOWN)
