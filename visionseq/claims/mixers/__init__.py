"""The claim of the token mixers: who carries information from later to earlier tokens, and what a token costs."""
