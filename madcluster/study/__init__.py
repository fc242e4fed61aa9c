"""What the book's studies need and users of a detector do not; nothing else imports it."""

__all__: list[str] = []  # see its modules
