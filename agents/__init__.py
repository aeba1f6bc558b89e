"""The gateway to coding agents: servers, models, profiles, and the OpenCode backend. Knows nothing of tasks."""
