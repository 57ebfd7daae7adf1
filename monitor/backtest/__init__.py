"""The backtest: a user's own past through the very functions of the loop, on virtual time."""
