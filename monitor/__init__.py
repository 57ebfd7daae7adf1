"""The monitor watches recorded predictions, pages within a stated budget, retrains, and promotes what it can prove."""
