"""Where strangers' files are looked into: in processes of their own, which may be killed at any moment."""
