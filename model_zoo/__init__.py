"""The index of the zoo, one folder per model with its card, and the small weights that ship with the package."""
