"""One run: check and build its components, train, predict, report; score it elsewhere."""
