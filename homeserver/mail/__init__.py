"""Mail that this server sends: how it is written (`letters`), and how it goes out (`post`)."""
