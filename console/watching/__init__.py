"""What the console reads from files, in a thread of its own; nothing here knows the screen."""
