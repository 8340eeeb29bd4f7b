"""The content repository's part of the client API."""
