"""Messages do not live for ever where rooms, those who run this server, or the messages themselves say so."""
