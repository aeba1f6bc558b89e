"""Setting up a checkout, cleaning up before it goes, and its dev server.

`config` says which values there are and what each may be; `repository` reads those that a trusted repository has itself;
`effective` puts both together. `patterns` and `placing` put files and links into a checkout, `ports` reserves a port,
`environment` makes the variables. `services` are the setup's steps, `cleanup` those before a removal, `servers` and
`health` the dev server. Scripts and servers run as commands in the background (`workspaces.commands`), nothing here waits.
"""
