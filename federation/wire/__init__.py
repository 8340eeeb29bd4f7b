"""The shapes of what crosses the wire between servers, and how they are written and read. Pure."""
