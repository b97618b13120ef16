"""The method: data of a fold, the three stages, and teacher outputs computed once."""
