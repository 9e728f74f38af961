"""One arm of a study against another: a law of how much less it needs, and when to believe it."""
