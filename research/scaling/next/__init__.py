"""Which runs to make next: chosen one after another for what they say of a target."""
