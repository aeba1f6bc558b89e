"""Jujutsu as the studio uses it, on its git store, colocated or not: one module for each subject."""

from __future__ import annotations

from workspaces.vcs import (
    jj_adopt,
    jj_changes,
    jj_checkout,
    jj_commit,
    jj_exclude,
    jj_inspect,
    jj_merge,
    jj_remote,
    jj_target,
    jj_update,
)


class JjVcs:
    """The `Vcs` of jj repositories; see workspaces/vcs/base.py for what each method promises. A branch is a bookmark."""

    name = "jj"

    find = staticmethod(jj_inspect.find)
    dirty_files = staticmethod(jj_inspect.dirty_files)
    what_is_missing = staticmethod(jj_inspect.what_is_missing)
    store = staticmethod(jj_inspect.store)
    tip = staticmethod(jj_inspect.tip)
    identity = staticmethod(jj_inspect.identity)
    contains = staticmethod(jj_inspect.contains)
    count_beyond = staticmethod(jj_inspect.count_beyond)
    common = staticmethod(jj_inspect.common)
    fork_point = staticmethod(jj_inspect.fork_point)
    worktrees = staticmethod(jj_adopt.worktrees)
    take_over = staticmethod(jj_adopt.take_over)
    put_branch = staticmethod(jj_adopt.put_branch)
    branches = staticmethod(jj_inspect.branches)

    create_checkout = staticmethod(jj_checkout.create_checkout)
    owns_checkout = staticmethod(jj_checkout.owns_checkout)
    is_unfinished = staticmethod(jj_checkout.is_unfinished)
    remove_checkout = staticmethod(jj_checkout.remove_checkout)
    delete_branch = staticmethod(jj_checkout.delete_branch)
    export = staticmethod(jj_checkout.export)
    bring_back = staticmethod(jj_checkout.bring_back)
    repair = staticmethod(jj_checkout.repair)

    exclude = staticmethod(jj_exclude.exclude)
    file_at = staticmethod(jj_exclude.file_at)
    status = staticmethod(jj_changes.status)
    changes = staticmethod(jj_changes.changes)
    marked_files = staticmethod(jj_changes.marked_files)
    ignored = staticmethod(jj_changes.ignored)
    nested_repositories = staticmethod(jj_changes.nested_repositories)
    loosen = staticmethod(jj_changes.loosen)
    stranded = staticmethod(jj_changes.stranded)
    take_stranded = staticmethod(jj_changes.take_stranded)
    commit_all = staticmethod(jj_commit.commit_all)
    update_checkout = staticmethod(jj_update.update_checkout)
    take_back_update = staticmethod(jj_update.take_back_update)
    restore_checkout = staticmethod(jj_update.restore_checkout)

    message_rules = staticmethod(jj_merge.message_rules)
    conflicts = staticmethod(jj_merge.conflicts)
    compute_revert = staticmethod(jj_merge.compute_revert)
    remotes = staticmethod(jj_remote.remotes)
    push = staticmethod(jj_remote.push)
    compute_merge = staticmethod(jj_merge.compute_merge)
    advance_branch = staticmethod(jj_target.advance_branch)
    checkouts_on = staticmethod(jj_target.checkouts_on)
    moved_note = staticmethod(jj_target.moved_note)
