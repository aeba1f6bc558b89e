"""Repositories as people have them: large, odd, with names and links that nobody expects."""

from __future__ import annotations

import os
import subprocess

from tests.faults.catalogue import GIT, fault
from tests.faults.scene import Scene
from tests.hands import unseen
from tests.repositories import GIT_ENV, git, jj, make_repository
from workspaces.services import diff_for, read_text

ODD = {
    "line\nbreak.txt": b"1\n",
    "tab\tand \"quotes\" and 'more'.txt": b"2\n",
    "-rf": b"3\n",
    "--output=x": b"4\n",
    os.fsdecode(b"caf\xe9.txt"): b"5\n",
    "l" * 246 + ".txt": b"6\n",
    "a b/ c /$(touch x);`y`.txt": b"7\n",
    "back\\slash.txt": b"8\n",
}


@fault("a repository with 100,000 files")
def many_files(scene: Scene) -> str:
    count = 100_000 if scene.whole else 3_000
    for number in range(count):
        place = scene.repository / f"d{number // 500}" / f"f{number}.txt"
        place.parent.mkdir(exist_ok=True)
        place.write_text(f"{number}\n")
    scene.hand.save(scene.repository)
    scene.begin({"d0/f0.txt": b"changed\n"})
    scene.require([file.path for file in diff_for(scene.workspace).files] == ["d0/f0.txt"], "the diff is not exact")
    scene.let_move()
    scene.merged()
    scene.require(scene.target("d0/f0.txt") == b"changed\n", "the target has not the change")
    scene.followed("d0/f0.txt", b"changed\n")
    return f"{count:,} files: the checkout was made, one changed file was shown and merged."


@fault("submodules", fast=GIT)
def submodules(scene: Scene) -> str:
    if scene.is_jj:
        _point_to_submodule(scene)
    else:
        inner = make_repository(scene.folder / "inner")
        git(scene.repository, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(inner), "lib/inner")
        scene.hand.save(scene.repository)
    scene.watch()
    scene.begin()
    paths = {file.path for file in diff_for(scene.workspace).files}
    scene.require(paths == {"work.txt", "app.py"}, f"the submodule is part of the change: {paths}")
    before = git(scene.store, "rev-parse", f"{scene.hand.tip(scene.repository)}:lib/inner")
    scene.check()
    scene.let_move()
    scene.merged()
    now = git(scene.store, "rev-parse", f"{scene.hand.tip(scene.repository)}:lib/inner")
    scene.require(now == before, "the pointer moved")
    if scene.is_jj:
        return "jj knows no submodules: the pointer is carried along as it is, and merged as it was."
    scene.require((scene.repository / "lib/inner/app.py").exists(), "the person's submodule was emptied")
    return "The pointer is part of the checkout, the submodule's files are not fetched; merged, pointer and submodule as they were."


def _point_to_submodule(scene: Scene) -> None:
    """A commit with a submodule's pointer as it comes from git, fetched into the repository; jj itself makes none."""
    tip, index = scene.hand.tip(scene.repository), {**GIT_ENV, "GIT_INDEX_FILE": str(scene.folder / "index")}
    for command in (["read-tree", tip], ["update-index", "--add", "--cacheinfo", f"160000,{tip},lib/inner"]):
        subprocess.run(["git", *command], cwd=scene.store, env=index, check=True, timeout=60)
    written = subprocess.run(
        ["git", "write-tree"], cwd=scene.store, env=index, check=True, capture_output=True, text=True, timeout=60
    )
    commit = git(scene.store, "commit-tree", written.stdout.strip(), "-p", tip, "-m", "With a submodule").strip()
    git(scene.store, "update-ref", "refs/heads/from-git", commit)
    unseen(scene.repository, "git", "import")
    scene.hand.put(scene.repository, "trunk", commit)
    scene.hand.delete(scene.repository, "from-git")


@fault("LFS pointers, and git-lfs is not installed")
def lfs(scene: Scene) -> str:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
    (scene.repository / "big.psd").write_bytes(pointer)
    (scene.repository / ".gitattributes").write_text("*.psd filter=lfs diff=lfs merge=lfs -text\n")
    scene.hand.save(scene.repository)
    git(scene.store, "config", "filter.lfs.smudge", "no-such-git-lfs smudge -- %f")
    git(scene.store, "config", "filter.lfs.clean", "no-such-git-lfs clean -- %f")
    git(scene.store, "config", "filter.lfs.required", "true")
    scene.watch()
    if not scene.is_jj:
        error = scene.refused(scene.begin)
        scene.require("big.psd" in error.message, "the file is not named")
        for name in ("smudge", "clean", "required"):
            git(scene.repository, "config", "--unset", f"filter.lfs.{name}")
    scene.begin()
    scene.require((scene.checkout / "big.psd").read_bytes() == pointer, "the pointer was changed")
    scene.require(
        "big.psd" not in {file.path for file in diff_for(scene.workspace).files}, "the pointer counts as changed"
    )
    if scene.is_jj:
        scene.let_move()
        scene.merged()
        scene.require(scene.target("big.psd") == pointer, "the pointer was changed by the merge")
        return "jj runs no filters, and the studio none on its store: the pointer stays as it is, in the checkout and merged."
    return (
        "The checkout is refused with the file's name and git's words; without the filter the pointer stays as it is."
    )


@fault("a sparse checkout", fast=GIT)
def sparse(scene: Scene) -> str:
    for name in ("in/one.txt", "out/two.txt"):
        (scene.repository / name).parent.mkdir()
        (scene.repository / name).write_text("1\n")
    scene.hand.save(scene.repository)
    if scene.is_jj:
        jj(scene.repository, "sparse", "set", "--clear", "--add", "in")
    else:
        git(scene.repository, "sparse-checkout", "set", "in")
    scene.require(not (scene.repository / "out").exists(), "the fault was not made")
    scene.begin()
    scene.require(
        {file.path for file in diff_for(scene.workspace).files} == {"work.txt", "app.py"}, "files count as deleted"
    )
    scene.let_move()
    scene.merged()
    scene.require(scene.target("out/two.txt") == b"1\n", "a file outside the cone was deleted")
    scene.require(not (scene.repository / "out").exists(), "the person's checkout is no longer sparse")
    return "Files outside the cone are neither shown as deleted nor deleted by the merge; the person's checkout stays sparse."


@fault("names with newlines, quotes, leading dashes, bytes that are no text, 250 bytes", fast=GIT)
def odd_names(scene: Scene) -> str:
    scene.begin(ODD)
    storable = {name: content for name, content in ODD.items() if not scene.is_jj or name.isascii()}
    found = diff_for(scene.workspace)
    scene.require(len(found.files) == len(storable), f"{len(found.files)} of {len(storable)} files are in the change")
    scene.let_move()
    scene.merged()
    for name, content in storable.items():
        scene.require(scene.target(name) == content, f"{name!r} is not in the target")
        scene.followed(name, content)
    if not scene.is_jj:
        return f"{len(ODD)} such names were shown, committed and merged byte by byte."
    [left_out] = {*ODD} - {*storable}
    scene.says(*found.notes)
    scene.require(scene.remove().state == "removed", scene.workspace.error)
    scene.require(left_out in scene.kept_aside(), "what could not be committed was not kept")
    return (
        f"{len(storable)} such names were shown, committed and merged byte by byte. The one that is no text jj cannot store: it "
        "is named, stays in the checkout, and is kept when that goes."
    )


@fault("a rename that changes only capital letters", fast=GIT)
def case_only(scene: Scene) -> str:
    scene.begin({"work.txt": b"1\n"})
    (scene.checkout / "README.md").rename(scene.checkout / "Readme.md")
    [renamed] = [file for file in diff_for(scene.workspace).files if file.status == "renamed"]
    scene.require((renamed.old_path, renamed.new_path) == ("README.md", "Readme.md"), "it is not shown as a rename")
    scene.let_move()
    scene.merged()
    names = scene.target_names()
    scene.require("Readme.md" in names and "README.md" not in names, f"the target has {names}")
    return "Shown as one rename, merged; the old name is gone from the target."


@fault("symbolic links that point outside", fast=GIT)
def links(scene: Scene) -> str:
    outside = scene.folder / "outside"
    outside.mkdir()
    (outside / "precious.txt").write_text("precious\n")
    scene.begin({"work.txt": b"1\n"}, commit=False)
    (scene.checkout / "folder").symlink_to(outside)
    (scene.checkout / "AGENTS.md").symlink_to(outside / "precious.txt")
    scene.commit()
    scene.require(read_text(scene.workspace, "AGENTS.md", limit=100) == "", "a link was followed")
    scene.require(
        all("precious\n" not in file.patch for file in diff_for(scene.workspace).files), "the diff followed a link"
    )
    scene.require(scene.remove().state == "removed", scene.workspace.error)
    scene.require((outside / "precious.txt").read_text() == "precious\n", "something outside was deleted")
    return "The links are part of the change and are never followed; removal deletes the links, not what they point to."


@fault("a binary file of 1 GB")
def huge_file(scene: Scene) -> str:
    size = (1 << 30) if scene.whole else (8 << 20)
    scene.begin({"work.txt": b"1\n"})
    with (scene.checkout / "huge.bin").open("wb") as handle:
        handle.write(b"\0head")
        handle.truncate(size)
    [shown] = [file for file in diff_for(scene.workspace).files if file.path == "huge.bin"]
    scene.require(shown.binary and not shown.hunks, "it is not shown as binary")
    scene.let_move()
    scene.merged()
    stored = git(scene.store, "cat-file", "-s", f"{scene.hand.tip(scene.repository)}:huge.bin")
    scene.require(int(stored) == size, "the target has not all of it")
    if not scene.is_jj:
        scene.require((scene.repository / "huge.bin").stat().st_size == size, "the checkout has not all of it")
    return f"{size >> 20} MB: shown as binary without its content, committed and merged."


@fault("CRLF and mixed line ends", fast=GIT)
def line_ends(scene: Scene) -> str:
    ends = {"dos.txt": b"one\r\ntwo\r\n", "mixed.txt": b"one\ntwo\r\n"}
    for name, content in ends.items():
        (scene.repository / name).write_bytes(content)
    scene.hand.save(scene.repository)
    git(scene.store, "config", "core.autocrlf", "true")
    if scene.is_jj:
        unseen(scene.repository, "config", "set", "--repo", "working-copy.eol-conversion", "input-output")
    scene.begin({"work.txt": b"1\n"}, commit=False)
    paths = {file.path for file in diff_for(scene.workspace).files}
    scene.require(paths == {"work.txt"}, f"untouched files count as changed: {paths}")
    scene.commit()
    attempt = scene.merge()
    scene.require(attempt.state == "merged" or not scene.is_jj, attempt.error)
    for name, content in ends.items():
        scene.require(scene.target(name) == content, "line ends were rewritten")
    settings_of = "core.autocrlf and jj's eol-conversion" if scene.is_jj else "core.autocrlf"
    return f"With {settings_of} nothing but the agent's file counts as changed, and no line end was rewritten."


@fault("hooks that fail", fast=GIT)
def hooks(scene: Scene) -> str:
    for name in ("pre-commit", "commit-msg", "post-checkout", "pre-merge-commit", "post-commit"):
        hook = scene.store / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
        hook.chmod(0o755)
    before = scene.hand.tip(scene.repository)
    scene.begin()
    scene.let_move()
    attempt = scene.merge()
    if attempt.state == "merged":
        return "Checkouts and the agent's commits run no hook; the merge was made."
    scene.says(attempt.error)
    scene.require(scene.hand.tip(scene.repository) == before, "the target moved although it was refused")
    return "Checkouts and the agent's commits run no hook; the merge is refused with the hook's words, and no branch moved."
