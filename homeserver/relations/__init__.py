"""Events under other events: what goes with an event to clients, lists of what hangs on one, threads."""
