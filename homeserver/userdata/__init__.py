"""What people keep on their server: account data, tags, profiles, filters."""
