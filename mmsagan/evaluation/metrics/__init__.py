"""The metrics: pure functions, and a registered component around each."""
