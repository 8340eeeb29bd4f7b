"""What is told of rooms beside their events: who got what, what they were used for, and copies of them to keep."""
