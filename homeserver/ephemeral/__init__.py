"""What passes: typing, receipts, presence. Rooms carry it, their history does not."""
