"""The HTTP edge: bytes of strangers become typed asks, answers and errors become bytes. Nothing else speaks HTTP."""
