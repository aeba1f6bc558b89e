"""Repositories as people have them: large, odd, with names and links that nobody expects."""

from __future__ import annotations

import os
from pathlib import Path

from tests.faults.catalogue import fault
from tests.faults.scene import Scene, blob
from tests.repositories import git, make_repository
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
    _commit(scene.repository)
    scene.begin({"d0/f0.txt": b"changed\n"})
    scene.require([file.path for file in diff_for(scene.workspace).files] == ["d0/f0.txt"], "the diff is not exact")
    scene.merged()
    scene.require((scene.repository / "d0/f0.txt").read_bytes() == b"changed\n", "the clean checkout was left behind")
    return f"{count:,} files: the checkout was made, one changed file was shown and merged."


@fault("submodules", fast=True)
def submodules(scene: Scene) -> str:
    inner = make_repository(scene.folder / "inner")
    git(scene.repository, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(inner), "lib/inner")
    _commit(scene.repository)
    scene.watch()
    scene.begin()
    paths = {file.path for file in diff_for(scene.workspace).files}
    scene.require(paths == {"work.txt", "app.py"}, f"the submodule is part of the change: {paths}")
    before = git(scene.repository, "rev-parse", "trunk:lib/inner")
    scene.check()
    scene._person = {}  # the merge brings the clean checkout along
    scene.merged()
    scene.require(git(scene.repository, "rev-parse", "trunk:lib/inner") == before, "the pointer moved")
    scene.require((scene.repository / "lib/inner/app.py").exists(), "the person's submodule was emptied")
    return "The pointer is part of the checkout, the submodule's files are not fetched; merged, pointer and submodule as they were."


@fault("LFS pointers, and git-lfs is not installed")
def lfs(scene: Scene) -> str:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
    (scene.repository / "big.psd").write_bytes(pointer)
    (scene.repository / ".gitattributes").write_text("*.psd filter=lfs diff=lfs merge=lfs -text\n")
    _commit(scene.repository)
    git(scene.repository, "config", "filter.lfs.smudge", "no-such-git-lfs smudge -- %f")
    git(scene.repository, "config", "filter.lfs.clean", "no-such-git-lfs clean -- %f")
    git(scene.repository, "config", "filter.lfs.required", "true")
    scene.watch()
    error = scene.refused(scene.begin)
    scene.require("big.psd" in error.message, "the file is not named")
    for name in ("smudge", "clean", "required"):
        git(scene.repository, "config", "--unset", f"filter.lfs.{name}")
    scene.begin()
    scene.require((scene.checkout / "big.psd").read_bytes() == pointer, "the pointer was changed")
    scene.require(
        "big.psd" not in {file.path for file in diff_for(scene.workspace).files}, "the pointer counts as changed"
    )
    return (
        "The checkout is refused with the file's name and git's words; without the filter the pointer stays as it is."
    )


@fault("a sparse checkout", fast=True)
def sparse(scene: Scene) -> str:
    for name in ("in/one.txt", "out/two.txt"):
        (scene.repository / name).parent.mkdir()
        (scene.repository / name).write_text("1\n")
    _commit(scene.repository)
    git(scene.repository, "sparse-checkout", "set", "in")
    scene.require(not (scene.repository / "out").exists(), "the fault was not made")
    scene.begin()
    scene.require(
        {file.path for file in diff_for(scene.workspace).files} == {"work.txt", "app.py"}, "files count as deleted"
    )
    scene.merged()
    scene.require(blob(scene.repository, "trunk", "out/two.txt") == b"1\n", "a file outside the cone was deleted")
    scene.require(not (scene.repository / "out").exists(), "the person's checkout is no longer sparse")
    return "Files outside the cone are neither shown as deleted nor deleted by the merge; the person's checkout stays sparse."


@fault("names with newlines, quotes, leading dashes, bytes that are no text, 250 bytes", fast=True)
def odd_names(scene: Scene) -> str:
    scene.begin(ODD)
    files = diff_for(scene.workspace).files
    scene.require(len(files) == len(ODD), f"{len(files)} of {len(ODD)} files are in the change")
    scene.merged()
    for name, content in ODD.items():
        scene.require(blob(scene.repository, "trunk", name) == content, f"{name!r} is not in the target")
        scene.require((scene.repository / name).read_bytes() == content, f"{name!r} is not in the checkout")
    return f"{len(ODD)} such names were shown, committed and merged byte by byte."


@fault("a rename that changes only capital letters", fast=True)
def case_only(scene: Scene) -> str:
    scene.begin({"work.txt": b"1\n"})
    (scene.checkout / "README.md").rename(scene.checkout / "Readme.md")
    [renamed] = [file for file in diff_for(scene.workspace).files if file.status == "renamed"]
    scene.require((renamed.old_path, renamed.new_path) == ("README.md", "Readme.md"), "it is not shown as a rename")
    scene.merged()
    names = git(scene.repository, "ls-tree", "--name-only", "trunk").split()
    scene.require("Readme.md" in names and "README.md" not in names, f"the target has {names}")
    return "Shown as one rename, merged; the old name is gone from the target."


@fault("symbolic links that point outside", fast=True)
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
    scene.merged()
    scene.require((scene.repository / "huge.bin").stat().st_size == size, "the checkout has not all of it")
    return f"{size >> 20} MB: shown as binary without its content, committed and merged."


@fault("CRLF and mixed line ends", fast=True)
def line_ends(scene: Scene) -> str:
    (scene.repository / "dos.txt").write_bytes(b"one\r\ntwo\r\n")
    (scene.repository / "mixed.txt").write_bytes(b"one\ntwo\r\n")
    _commit(scene.repository)
    git(scene.repository, "config", "core.autocrlf", "true")
    scene.begin({"work.txt": b"1\n"}, commit=False)
    paths = {file.path for file in diff_for(scene.workspace).files}
    scene.require(paths == {"work.txt"}, f"untouched files count as changed: {paths}")
    scene.commit()
    scene.merge()
    scene.require(blob(scene.repository, "trunk", "dos.txt") == b"one\r\ntwo\r\n", "line ends were rewritten")
    scene.require(blob(scene.repository, "trunk", "mixed.txt") == b"one\ntwo\r\n", "line ends were rewritten")
    return "With core.autocrlf nothing but the agent's file counts as changed, and no line end was rewritten."


@fault("hooks that fail", fast=True)
def hooks(scene: Scene) -> str:
    for name in ("pre-commit", "commit-msg", "post-checkout", "pre-merge-commit", "post-commit"):
        hook = scene.repository / ".git" / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
        hook.chmod(0o755)
    before = git(scene.repository, "rev-parse", "trunk")
    scene.begin()
    attempt = scene.merge()
    if attempt.state == "merged":
        return "Checkouts and the agent's commits run no hook; the merge was made."
    scene.says(attempt.error)
    scene.require(git(scene.repository, "rev-parse", "trunk") == before, "the target moved although it was refused")
    return "Checkouts and the agent's commits run no hook; the merge is refused with the hook's words, and no branch moved."


def _commit(repository: Path) -> None:
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "As people have it")
