"""The files of a workspace as people read them: a tree that opens folder by folder, one file beside it, search, downloads."""

from __future__ import annotations

import uuid
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET

from studio.kernel.errors import NotFound, StudioError
from studio.kernel.pages import is_fragment, number
from workspaces.files import downloads, tree
from workspaces.files.content import shown
from workspaces.files.paths import path_of, quoted
from workspaces.files.search import Found, find_lines, find_names
from workspaces.files.source import Source, source_of
from workspaces.models import Workspace
from workspaces.selectors import workspace_visible_to
from workspaces.services.checkouts import checkout_path


@require_GET
def files(request: HttpRequest, workspace_id: uuid.UUID) -> HttpResponse:
    """The page with the tree and, with `path`, a file; for a page that shows it inside, without what stands around."""
    workspace = workspace_visible_to(request.user, workspace_id)
    context = {"workspace": workspace, "project": workspace.project, "page": not is_fragment(request)}
    try:
        source = source_of(workspace, request.user)
        context |= {"live": source.live, "root": quoted(str(checkout_path(workspace))) if source.live else ""}
        context |= _side(request, workspace, source) | _file(request, source)
    except StudioError as error:
        context["trouble"] = error.message
    template = "workspaces/files/_files.html" if is_fragment(request) else "workspaces/files/page.html"
    return render(request, template, context)


@require_GET
def side(request: HttpRequest, workspace_id: uuid.UUID) -> HttpResponse:
    """The tree, the tree of the change, or what was found; for the page's script."""
    workspace = workspace_visible_to(request.user, workspace_id)
    if not is_fragment(request):
        return _to_page(request, workspace)
    context: dict[str, Any] = {"workspace": workspace}
    try:
        context |= _side(request, workspace, source_of(workspace))
    except StudioError as error:
        context["side_trouble"] = error.message
    return render(request, "workspaces/files/_side.html", context)


@require_GET
def folder(request: HttpRequest, workspace_id: uuid.UUID) -> HttpResponse:
    """What stands in one folder, from `offset` on; for the page's script."""
    workspace = workspace_visible_to(request.user, workspace_id)
    if not is_fragment(request):
        return _to_page(request, workspace)
    listing = tree.listing(source_of(workspace), path_of(request), offset=number(request, "offset") or 0)
    branch = tree.Branch(listing, [tree.Node(entry) for entry in listing.entries])
    return render(request, "workspaces/files/_branch.html", {"workspace": workspace, "branch": branch})


@require_GET
def view(request: HttpRequest, workspace_id: uuid.UUID) -> HttpResponse:
    """One file; for the page's script."""
    workspace = workspace_visible_to(request.user, workspace_id)
    if not is_fragment(request):
        return _to_page(request, workspace)
    context: dict[str, Any] = {"workspace": workspace}
    try:
        context |= _file(request, source_of(workspace, request.user))
    except StudioError as error:
        context["file_trouble"] = error.message
    return render(request, "workspaces/files/_file.html", context)


@require_GET
def raw(request: HttpRequest, workspace_id: uuid.UUID) -> HttpResponseBase:
    """One file as it is, to be saved."""
    workspace = workspace_visible_to(request.user, workspace_id)
    return downloads.raw_file(request, source_of(workspace, request.user), path_of(request))


@require_GET
def image(request: HttpRequest, workspace_id: uuid.UUID) -> HttpResponseBase:
    """A small image, to be shown in the page."""
    workspace = workspace_visible_to(request.user, workspace_id)
    return downloads.image(source_of(workspace, request.user), path_of(request))


@require_GET
def patch(request: HttpRequest, workspace_id: uuid.UUID) -> HttpResponseBase:
    """The whole change as one patch, to be saved."""
    return downloads.patch(request, workspace_visible_to(request.user, workspace_id))


def _to_page(request: HttpRequest, workspace: Workspace) -> HttpResponse:
    return redirect(f"{reverse('workspace-files', args=[workspace.pk])}?{request.META.get('QUERY_STRING', '')}")


def _side(request: HttpRequest, workspace: Workspace, source: Source) -> dict[str, Any]:
    """What stands beside the file. `show`: all, changed; with `q` what was found, `in` names or lines."""
    words, where = request.GET.get("q", ""), request.GET.get("in", "names")
    show = "changed" if request.GET.get("show") == "changed" else "all"
    context: dict[str, Any] = {"show": show, "words": words, "where": where}
    if words.strip():
        return context | _found(request, workspace, words, where)
    if show == "changed":
        branch, count = tree.changed_tree(workspace)
        return context | {"branch": branch, "count": count, "left_out": max(0, count - tree.CHANGED_SHOWN)}
    return context | {"branch": _opened(source, path_of(request))}


def _opened(source: Source, path: str) -> tree.Branch:
    """The tree opened to `path`; from the root alone where there is no such path."""
    try:
        return tree.opened_to(source, path)
    except NotFound:
        return tree.opened_to(source, "")


def _found(request: HttpRequest, workspace: Workspace, words: str, where: str) -> dict[str, Any]:
    regex = request.GET.get("regex") == "1"
    try:
        if where == "lines":
            return {"found": find_lines(workspace, words, regex=regex, reader=request.user)}
        return {"found": find_names(workspace, words)}
    except StudioError as error:
        return {"found": Found(), "side_trouble": error.message}


def _file(request: HttpRequest, source: Source) -> dict[str, Any]:
    """The file that is asked for, if one is; what is wrong with it is said in its place."""
    path = path_of(request)
    if not path:
        return {}
    try:
        return {"file": shown(source, path)}
    except StudioError as error:
        return {"file_trouble": error.message}
