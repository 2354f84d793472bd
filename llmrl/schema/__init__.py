"""Every setting there is, one file a part: its type, default, range and choices, and what it may not be together."""
