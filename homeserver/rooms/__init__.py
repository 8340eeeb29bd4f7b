"""The room engine: what a room is while it is in use, and the one door through which events enter it."""
