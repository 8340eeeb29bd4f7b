"""What the web pages are about that people speak of."""
