"""What a budget buys best under a fitted law."""
