"""Events that are sent later: when their time has come, or at a word of whoever may say it."""
