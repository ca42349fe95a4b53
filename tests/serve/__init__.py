"""The server, its page, its schema, and what deploys it."""
