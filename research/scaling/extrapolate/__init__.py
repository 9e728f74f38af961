"""Learning curves continued past their last point, by several laws at once."""
