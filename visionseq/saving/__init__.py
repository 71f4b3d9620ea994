"""Saving a model as a folder of files and loading it again: configuration, weights, card, and the Hub."""
