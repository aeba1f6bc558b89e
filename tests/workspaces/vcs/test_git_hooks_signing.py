"""The person's own rules for a merge: signatures with a real key, and hooks that run, refuse, hang or are left out."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.repositories import git
from tests.workspaces.vcs.conftest import VCS, merging, mine, tip, work
from workspaces.vcs import git_commit
from workspaces.vcs.base import Blocked


@pytest.fixture
def key(repository, tmp_path):
    """A real ssh key, with which the repository signs."""
    path = tmp_path / "key"
    subprocess.run(
        [shutil.which("ssh-keygen") or "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path, "-C", "ada"],
        check=True,
    )
    allowed = tmp_path / "allowed"
    allowed.write_text(f"ada@example.invalid {path.with_suffix('.pub').read_text()}")
    for name, value in {
        "commit.gpgSign": "true",
        "gpg.format": "ssh",
        "user.signingKey": str(path),
        "gpg.ssh.allowedSignersFile": str(allowed),
    }.items():
        git(repository, "config", name, value)
    return path


def hook(repository, name, text):
    path = repository / ".git" / "hooks" / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def advance(repository, result, **options):
    return VCS.advance_branch(
        repository, "trunk", tip(repository), result.commit, reason="test", resuming=False, **options
    )


@pytest.mark.parametrize("how", ["merge", "squash", "rebase"])
def test_signing__with_the_persons_key(repository, checkout, key, how):
    source = work(checkout, {"a.txt": "1\n"})
    mine(repository, {"b.txt": "1\n"})
    result = VCS.compute_merge(repository, merging(repository, source, how))
    git(repository, "verify-commit", result.commit)
    assert git(repository, "log", "-1", "--format=%G?", result.commit) == "G\n"
    assert "signed" in " ".join(VCS.message_rules(repository))
    unsigned = VCS.compute_merge(repository, merging(repository, source, how, signed=False))
    assert git(repository, "log", "-1", "--format=%G?", unsigned.commit) == "N\n"


def test_signing__that_fails_is_a_refusal(repository, checkout, key):
    source = work(checkout, {"a.txt": "1\n"})  # an agent's commit is not signed, so this works
    key.unlink()
    result = VCS.compute_merge(repository, merging(repository, source))
    assert result.commit == ""
    assert "could not be signed" in result.refusal
    assert "Nothing was moved" in result.refusal


def test_hooks__none_runs_unless_allowed(repository, checkout, tmp_path):
    for name in ("commit-msg", "reference-transaction", "post-merge", "pre-merge-commit", "post-checkout"):
        hook(repository, name, f"touch '{tmp_path}/ran-{name}'; exit 1")
    result = VCS.compute_merge(repository, merging(repository, work(checkout, {"a.txt": "1\n"})))
    advance(repository, result)
    assert not list(tmp_path.glob("ran-*"))


def test_hooks__the_message_is_changed_or_refused(repository, checkout, monkeypatch):
    source = work(checkout, {"a.txt": "1\n"})
    hook(repository, "commit-msg", 'echo "Ticket: 7" >> "$1"')
    result = VCS.compute_merge(repository, merging(repository, source, hooks=True))
    assert git(repository, "log", "-1", "--format=%B", result.commit).strip() == "Merge it\nTicket: 7"
    hook(repository, "commit-msg", "echo no ticket in the message >&2; exit 1")
    refusal = VCS.compute_merge(repository, merging(repository, source, hooks=True)).refusal
    assert "refused the message: no ticket in the message. Nothing was moved." in refusal
    hook(repository, "commit-msg", "sleep 30")
    monkeypatch.setattr(git_commit, "HOOK_TIMEOUT", 0.3)
    assert "did not come to an end" in VCS.compute_merge(repository, merging(repository, source, hooks=True)).refusal


def test_hooks__about_the_branch(repository, checkout, tmp_path):
    result = VCS.compute_merge(repository, merging(repository, work(checkout, {"a.txt": "1\n"})))
    hook(repository, "reference-transaction", '[ "$1" != prepared ] || { echo the branch is frozen >&2; exit 1; }')
    before = tip(repository)
    with pytest.raises(Blocked, match="frozen"):
        advance(repository, result, hooks=True)
    assert tip(repository) == before
    assert git(repository, "status", "--porcelain") == ""
    (repository / ".git/hooks/reference-transaction").unlink()
    hook(repository, "post-merge", f"pwd > '{tmp_path}/where'; exit 3")
    assert advance(repository, result, hooks=True) == [repository]
    assert (tmp_path / "where").read_text().strip() == str(repository)
    assert tip(repository) == result.commit


def test_rules__say_what_runs_and_what_does_not(repository):
    for name in ("commit-msg", "pre-merge-commit"):
        hook(repository, name, "true")
    runs, skipped = sorted(VCS.message_rules(repository))
    assert runs == "The hook commit-msg runs."
    assert "pre-merge-commit does not run" in skipped
