"""The door for other servers' requests."""
