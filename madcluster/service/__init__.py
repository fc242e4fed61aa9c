"""What a detector needs in service: alarms, explanations, streams, files; it is known by its scores."""

__all__: list[str] = []  # see its modules
