"""The pages of sessions: the transcript, messages to the agent, and answers to what it asks."""
