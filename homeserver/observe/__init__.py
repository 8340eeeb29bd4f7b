"""What the server tells the people who run it: logs (`log`), figures (`metrics`), and a shell into it (`shell`)."""
