"""git as the studio uses it: the command line, one module for each subject."""

from __future__ import annotations

from workspaces.vcs import (
    git_adopt,
    git_changes,
    git_checkout,
    git_commit,
    git_conflicts,
    git_exclude,
    git_inspect,
    git_kept,
    git_marks,
    git_merge,
    git_push,
    git_repair,
    git_revert,
    git_stranded,
    git_submodules,
    git_target,
    git_update,
)


class GitVcs:
    """The `Vcs` of git repositories; see workspaces/vcs/base.py for what each method promises."""

    name = "git"

    find = staticmethod(git_inspect.find)
    dirty_files = staticmethod(git_inspect.dirty_files)
    what_is_missing = staticmethod(git_inspect.what_is_missing)
    store = staticmethod(git_inspect.store)
    tip = staticmethod(git_inspect.tip)
    identity = staticmethod(git_inspect.identity)
    contains = staticmethod(git_inspect.contains)
    count_beyond = staticmethod(git_inspect.count_beyond)
    common = staticmethod(git_inspect.common)
    fork_point = staticmethod(git_inspect.fork_point)
    status = staticmethod(git_inspect.status)

    create_checkout = staticmethod(git_checkout.create_checkout)
    owns_checkout = staticmethod(git_checkout.owns_checkout)
    is_unfinished = staticmethod(git_checkout.is_unfinished)
    remove_checkout = staticmethod(git_checkout.remove_checkout)
    delete_branch = staticmethod(git_checkout.delete_branch)
    commit_all = staticmethod(git_checkout.commit_all)
    ignored = staticmethod(git_checkout.ignored)
    nested_repositories = staticmethod(git_checkout.nested_repositories)
    loosen = staticmethod(git_submodules.loosen)
    stranded = staticmethod(git_stranded.stranded)
    take_stranded = staticmethod(git_stranded.take_stranded)
    export = staticmethod(git_checkout.export)
    bring_back = staticmethod(git_kept.bring_back)

    exclude = staticmethod(git_exclude.exclude)
    file_at = staticmethod(git_exclude.file_at)
    changes = staticmethod(git_changes.changes)
    marked_files = staticmethod(git_marks.marked_files)
    compute_merge = staticmethod(git_merge.compute_merge)
    message_rules = staticmethod(git_commit.message_rules)
    advance_branch = staticmethod(git_target.advance_branch)
    moved_note = staticmethod(git_target.moved_note)
    checkouts_on = staticmethod(git_target.checkouts_on)
    conflicts = staticmethod(git_conflicts.conflicts)
    compute_revert = staticmethod(git_revert.compute_revert)
    update_checkout = staticmethod(git_update.update_checkout)
    take_back_update = staticmethod(git_update.take_back_update)
    restore_checkout = staticmethod(git_update.restore_checkout)

    worktrees = staticmethod(git_adopt.worktrees)
    take_over = staticmethod(git_adopt.take_over)
    put_branch = staticmethod(git_adopt.put_branch)
    branches = staticmethod(git_push.branches)
    remotes = staticmethod(git_push.remotes)
    push = staticmethod(git_push.push)
    repair = staticmethod(git_repair.repair)
