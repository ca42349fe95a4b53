"""Tests, a folder a room of the house; what they share is in tests/support."""
