"""The monitor watches predictions, pages within a stated budget, retrains, and promotes what it can prove."""
