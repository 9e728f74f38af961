"""How far to trust a fit: intervals, profiles, influence, and the house's list of checks."""
