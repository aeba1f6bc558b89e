"""The files of a workspace, to be read by people: tree, contents, search, and the change as a patch. Nothing is written.

Repositories are hostile: names may be any bytes, links may lead anywhere, contents may be of any size. So names are walked
one component at a time without following links, everything is bounded, and what is shown is escaped.
"""
