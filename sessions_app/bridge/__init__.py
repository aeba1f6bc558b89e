"""The bridge: one long-lived reader per agent server that turns its event stream into our log.

`runner` holds the leases and keeps one `ServerBridge` per server; `server` reads one server's stream and ticks;
`ingest` writes a batch of stream items; `watchdogs` ends turns that run too long.
"""
