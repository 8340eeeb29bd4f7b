"""What is said of which event: a family of names a file, each a pure function of what happened.

happening   an event, with what one must know to say what it means
messages    message.*, reaction.*
rooms       room.*, of rooms outside of guilds
guilds      server.*, role.*, category.*, and channel.* as far as it is the guild's state
channels    channel.*, of what happens in a channel's room
    voice       voice.state
"""
