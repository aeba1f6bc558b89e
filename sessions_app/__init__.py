"""The durable conversation with an agent: sessions, turns, the event log, the bridge and recovery."""
