"""How a model becomes a folder of files and comes back: configuration, weights, card, and the Hub."""
