"""The report: figures, a self-contained page, and the pictures beside it."""
