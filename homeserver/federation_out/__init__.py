"""What this server tells others by itself: behind the machines of `federation.outbound`.

ledger     what is owed to whom, in the database; the newest events of rooms
passing    typing, receipts and presence on their way out
build      puts it together
"""
