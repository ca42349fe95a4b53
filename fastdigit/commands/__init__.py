"""Subcommands of ``fastdigit`` that need no room of their own; one a module."""
