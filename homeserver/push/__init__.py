"""Who is told of what: push rules, what they say of each event, what is unread, and gateways that pass it on."""
