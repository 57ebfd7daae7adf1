"""Text generation: one thread owns every decoder, requests queue first come first served, tokens stream out.

asked → owner (batch: fill, step, sample) → ledger → the last event leaves.
"""
