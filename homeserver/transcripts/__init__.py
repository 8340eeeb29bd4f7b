"""What is said in voice messages, written down: work that waits in the database, and engines that do it."""
